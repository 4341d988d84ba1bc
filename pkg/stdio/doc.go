// Package stdio keeps the standard streams of processes: it makes their pipes
// or receives their terminal, keeps our ends in the service manager's
// descriptor store, pumps output into the log and to attached clients, and
// input from clients to the process.
//
// A stream lives from the first Attach or Open of its id to Finish or Drop. The
// manager holds the process's ends of the pipes too for as long as the unit
// lives, so the end of the output is not the end of the file but Finish.
//
// # Slow clients
//
// A process waits for its log, and for no client: what the client of a container
// has not read waits in memory, 1 MiB of it, and then in a file without a name,
// 1 GiB or a quarter of the disk. A client that is further behind is ended with an error. On
// a terminal ^C forgets what the client has not read, as terminals do. The output of an
// exec is nobody else's and logged nowhere: there the process waits, as in a pipe.
//
// # What kill -9 leaves
//
// With StdioSpec.Persist, pipes and terminal are in the descriptor store under
// "<id>.in", ".out", ".err" and ".tty", and one more pipe, the stash, under
// "<id>.stash". Output goes through the stash on its way to the log, so that each
// byte is logged once, whenever the daemon is killed; a [journal] does that:
//
//  1. the file <id>.mark, which is mapped into memory, says where in the log
//     the chunk will begin, and that it is not logged;
//  2. splice(2) moves the chunk from the process's pipe to the stash;
//  3. tee(2) shows it to us, and the log gets it;
//  4. the mark says that it is logged;
//  5. the stash is emptied.
//
// A daemon that finds the stash filled goes by the mark: what is logged is
// thrown away, what is not is logged again after the log was rewound to where
// it began. A sink that cannot be rewound may get a chunk twice, never not at
// all.
package stdio
