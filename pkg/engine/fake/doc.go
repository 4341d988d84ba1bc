// Package fake has the engine's ports in memory, for tests of the engine.
package fake
