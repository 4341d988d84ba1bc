// Package runtime turns containers into OCI bundles and drives the OCI runtime's
// command line.
//
// [Spec] is the pure half: a bundle and the facts about this machine in, the
// runtime specification's config.json out. Golden files in testdata show it.
// [Runtime] is the other half: it gathers the facts, writes the bundle and runs
// moss-runtime from inside the holder's namespaces, where mossd lives.
//
// The container shares the engine's user namespace: uid 0 in the container is
// uid 0 of the engine, the user outside. What docker's daemon, as the machine's
// root, may do and a user may not (devices made with mknod(2), a lower OOM
// score, higher limits) is bound, left out or refused here.
//
// Files of a bundle, R/bundles/<container id>/ (see [Config]):
//
//	config.json        the specification; written last by Prepare, atomically
//	pid                the container's process id, written by the runtime
//	create.log         errors of the create command, JSON lines
//	command.log        errors of the start and delete commands, JSON lines
//	exec-<id>.json     the process of an exec while it is started
//	exec-<id>.log      errors of that exec, JSON lines
//	exec-<id>.pid      its process id
package runtime
