// The process rootlesskit's child insists on running. It does nothing: it stops
// here, before the Go runtime takes any memory, until it is told to end.
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

__attribute__((constructor)) static void moss_holder_payload(void)
{
	// Not an environment variable: the child would have it too, and re-executes
	// itself. argv is not handed to constructors by every C library.
	char buf[256];
	int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	ssize_t n = read(fd, buf, sizeof buf - 1);
	close(fd);
	if (n <= 0)
		return;
	buf[n] = 0;
	size_t first = strlen(buf) + 1;
	if (first >= (size_t)n || strcmp(buf + first, "--moss-holder-payload"))
		return;

	sigset_t all;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	prctl(PR_SET_NAME, "moss-holder");
	for (;;) {
		// The parent hands on every signal it gets.
		switch (sigwaitinfo(&all, NULL)) {
		case SIGTERM:
		case SIGINT:
		case SIGQUIT:
		case SIGHUP:
			_exit(0);
		}
	}
}
