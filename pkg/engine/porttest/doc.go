// Package porttest has one contract suite for each of the engine's ports. The
// real adapter and the fake run the same suite.
package porttest
