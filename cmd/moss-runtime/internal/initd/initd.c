// PID 1 of a container with --init: starts the command, hands signals on to
// it, reaps what becomes an orphan, and ends with the command's exit code.
//
// It runs in the constructor, before the Go runtime has so much as a thread or
// a heap, so it costs a container a few pages. It comes before all other
// constructors: what is in the container's environment is not for them.
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

// As pkg/runtime mounts it and names it in argv[0].
#define INIT_PATH "/sbin/docker-init"

// Signals that tell of a fault of this process are not for the child.
static const int own_faults[] = { SIGFPE, SIGILL, SIGSEGV, SIGBUS, SIGABRT, SIGTRAP, SIGSYS };

static pid_t start(char **argv, const sigset_t *was)
{
	struct sigaction dfl = { .sa_handler = SIG_DFL }, ign = { .sa_handler = SIG_IGN };
	pid_t pid = fork();
	if (pid < 0) {
		dprintf(2, "init: cannot start %s: %s\n", argv[0], strerror(errno));
		_exit(126);
	}
	if (pid > 0)
		return pid;
	// A group of its own in the foreground, so that the terminal's signals
	// come to it and not to init as well.
	setpgid(0, 0);
	sigaction(SIGTTOU, &ign, NULL);
	if (isatty(0))
		tcsetpgrp(0, getpgrp());
	sigaction(SIGTTOU, &dfl, NULL);
	sigprocmask(SIG_SETMASK, was, NULL);
	const char *listener = getenv("LISTEN_PID");
	if (listener && !strcmp(listener, "1")) { // the sockets are the command's, see sd_listen_fds(3)
		char own[16];
		snprintf(own, sizeof own, "%d", (int)getpid());
		setenv("LISTEN_PID", own, 1);
	}
	execvp(argv[0], argv);
	int err = errno;
	// In the words that docker's clients know from a container without init.
	if (err == ENOENT)
		dprintf(2, "init: exec: \"%s\": executable file not found in $PATH\n", argv[0]);
	else
		dprintf(2, "init: exec %s: %s\n", argv[0], strerror(err));
	_exit(err == ENOENT ? 127 : 126);
}

// reap takes every child that has ended; it does not return once the command has.
static void reap(pid_t command)
{
	int status, code = -1;
	pid_t pid;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (pid == command)
			code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	if (code >= 0)
		_exit(code); // the kernel kills the rest
}

static void __attribute__((constructor(101))) moss_init_constructor(int argc, char **argv)
{
	sigset_t set, was;
	if (argc < 1 || strcmp(argv[0], INIT_PATH))
		return;
	argc--, argv++;
	if (argc > 0 && !strcmp(argv[0], "--"))
		argc--, argv++;
	if (argc < 1) {
		dprintf(2, "init: no command\n");
		_exit(127);
	}
	sigfillset(&set);
	for (size_t i = 0; i < sizeof own_faults / sizeof *own_faults; i++)
		sigdelset(&set, own_faults[i]);
	// Stopped by the terminal it could not hand on anything any more.
	sigprocmask(SIG_SETMASK, &set, &was);
	pid_t command = start(argv, &was);
	for (;;) {
		siginfo_t info;
		int sig = sigwaitinfo(&set, &info);
		if (sig < 0)
			continue; // EINTR
		if (sig == SIGCHLD)
			reap(command);
		else if (sig != SIGTTIN && sig != SIGTTOU)
			kill(command, sig);
	}
}
