// Package moss holds the nouns of the engine: containers, images, networks,
// execs, events and their typed identifiers. It does no I/O and imports
// nothing of ours; data crosses between the adapters only as these types.
package moss
