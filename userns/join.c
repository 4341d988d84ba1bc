// Enters the holder's user and mount namespaces while the process has one
// thread: setns(2) into a user namespace fails with more, and the Go runtime
// starts some before any Go code of ours runs.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef NS_GET_OWNER_UID
#define NS_GET_OWNER_UID _IO(0xb7, 0x4)
#endif
#ifndef NSFS_MAGIC
#define NSFS_MAGIC 0x6e736673
#endif

static int joined;

int moss_joined(void) { return joined; }

// Ends the process with one line. err is an errno, or 0.
static void __attribute__((noreturn, format(printf, 3, 4))) die(const char *dir, int err, const char *fmt, ...)
{
	char why[1024];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(why, sizeof why, fmt, ap);
	va_end(ap);
	dprintf(2, "cannot join the namespaces of %s: %s%s%s\n", dir, why, err ? ": " : "", err ? strerror(err) : "");
	_exit(1);
}

#define RUNS "; start it with: systemctl --user restart moss-rootless.service"

static pid_t read_pid(const char *dir)
{
	char path[PATH_MAX], buf[32], *end;
	if (snprintf(path, sizeof path, "%s/child_pid", dir) >= (int)sizeof path)
		die(dir, ENAMETOOLONG, "child_pid");
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		die(dir, 0, "the holder does not run (%s: %s)" RUNS, path, strerror(errno));
	ssize_t n = read(fd, buf, sizeof buf - 1);
	if (n < 0)
		die(dir, errno, "%s", path);
	close(fd);
	buf[n] = 0;
	long pid = strtol(buf, &end, 10);
	if (end == buf || (*end && *end != '\n') || pid <= 1 || pid > INT_MAX)
		die(dir, 0, "%s holds no pid" RUNS, path);
	return (pid_t)pid;
}

// child_pid may be stale: its process gone, the number somebody else's by now.
// Only a process in another user namespace, one that belongs to our own user,
// will do; that it is the holder's is seen after the join.
static void check_target(const char *dir, pid_t pid)
{
	char path[64];
	struct stat theirs, ours;
	uid_t owner;

	snprintf(path, sizeof path, "/proc/%d/ns/user", (int)pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		die(dir, 0, "child_pid is stale, process %d is not ours or gone (%s)" RUNS, (int)pid, strerror(errno));
	if (fstat(fd, &theirs) || stat("/proc/self/ns/user", &ours))
		die(dir, errno, "user namespace");
	if (theirs.st_dev == ours.st_dev && theirs.st_ino == ours.st_ino)
		die(dir, 0, "child_pid is stale, process %d is in our own user namespace" RUNS, (int)pid);
	if (ioctl(fd, NS_GET_OWNER_UID, &owner))
		die(dir, errno, "owner of the user namespace of process %d", (int)pid);
	if (owner != geteuid())
		die(dir, 0, "child_pid is stale, the user namespace of process %d belongs to uid %u" RUNS, (int)pid, owner);
	close(fd);
}

static void enter(const char *dir, pid_t pid, int pidfd)
{
	char path[64];
	if (pidfd >= 0 && setns(pidfd, CLONE_NEWUSER | CLONE_NEWNS) == 0)
		return;
	if (pidfd >= 0 && errno != EINVAL) // EINVAL: a kernel before 5.8
		die(dir, errno, "setns to process %d", (int)pid);
	snprintf(path, sizeof path, "/proc/%d/ns/user", (int)pid);
	int user = open(path, O_RDONLY | O_CLOEXEC);
	snprintf(path, sizeof path, "/proc/%d/ns/mnt", (int)pid);
	int mnt = open(path, O_RDONLY | O_CLOEXEC);
	if (user < 0 || mnt < 0)
		die(dir, errno, "%s", path);
	if (setns(user, CLONE_NEWUSER) || setns(mnt, CLONE_NEWNS))
		die(dir, errno, "setns to process %d", (int)pid);
	close(user);
	close(mnt);
}

static void join(const char *dir)
{
	char cwd[PATH_MAX], path[PATH_MAX];
	struct statfs fs;
	int have_cwd = getcwd(cwd, sizeof cwd) != NULL && cwd[0] == '/';

	pid_t pid = read_pid(dir);
	// The descriptor first: from here on the number cannot come to mean another
	// process without setns failing.
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0 && errno != ENOSYS)
		die(dir, 0, "child_pid is stale, process %d: %s" RUNS, (int)pid, strerror(errno));
	check_target(dir, pid);
	enter(dir, pid, pidfd);
	if (pidfd >= 0)
		close(pidfd);

	// The holder binds its network namespace in its own mount namespace only.
	snprintf(path, sizeof path, "%s/netns", dir);
	if (statfs(path, &fs) || fs.f_type != NSFS_MAGIC)
		die(dir, 0, "child_pid is stale, process %d is not the holder" RUNS, (int)pid);
	if (geteuid() != 0)
		die(dir, 0, "uid %u is not 0 in the user namespace", geteuid());
	// setns put us at the namespace's root; the host's tree is the same there.
	if (!have_cwd || chdir(cwd))
		if (chdir("/"))
			die(dir, errno, "/");
	// New credentials made us undumpable, which takes /proc/self from us, and
	// with it every re-exec.
	if (prctl(PR_SET_DUMPABLE, 1, 0, 0, 0))
		die(dir, errno, "PR_SET_DUMPABLE");
	joined = 1;
}

__attribute__((constructor)) static void moss_join_constructor(void)
{
	char dir[PATH_MAX];
	const char *env = getenv("_MOSS_JOIN");
	// libcontainer's own re-exec is none of our business.
	if (!env || !*env || getenv("_LIBCONTAINER_INITPIPE"))
		return;
	if (env[0] != '/' || strlen(env) >= sizeof dir)
		die(env, 0, "_MOSS_JOIN must be an absolute path");
	strcpy(dir, env);
	unsetenv("_MOSS_JOIN");
	join(dir);
}
