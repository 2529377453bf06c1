"""A library that makes calls of the system fail as those of odd file systems do.

``FAIL=chmod:1,fsync:22`` in the environment of a process that has it preloaded: each call named
there fails with that number of an error, for files below ``FAIL_BELOW`` (an absolute path).
"""

from __future__ import annotations

import shutil
import subprocess

SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static int planned(const char *call) {
    const char *plan = getenv("FAIL"), *found = plan ? strstr(plan, call) : 0;
    size_t length = strlen(call);
    if (!found || found[length] != ':' || (found != plan && found[-1] != ',')) return 0;
    return atoi(found + length + 1);
}
static int below(const char *path) {
    const char *root = getenv("FAIL_BELOW");
    char whole[PATH_MAX];
    if (!root) return 1;
    if (path[0] != '/') {
        if (!getcwd(whole, sizeof whole / 2)) return 0;
        strcat(whole, "/");
        strncat(whole, path, sizeof whole - strlen(whole) - 1);
        return !strncmp(whole, root, strlen(root));
    }
    return !strncmp(path, root, strlen(root));
}
static int below_fd(int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return below(path);
}
#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define REFUSE(call, place) \
    do { int e = planned(call); if (e && (place)) { errno = e; return -1; } } while (0)

int flock(int fd, int what) { REFUSE("flock", below_fd(fd)); REAL(flock); return real(fd, what); }
int chmod(const char *path, mode_t mode) {
    REFUSE("chmod", below(path)); REAL(chmod); return real(path, mode);
}
int fchmod(int fd, mode_t mode) {
    REFUSE("chmod", below_fd(fd)); REAL(fchmod); return real(fd, mode);
}
int fchmodat(int dir, const char *path, mode_t mode, int flags) {
    REFUSE("chmod", below(path)); REAL(fchmodat); return real(dir, path, mode, flags);
}
int link(const char *from, const char *to) {
    REFUSE("link", below(to)); REAL(link); return real(from, to);
}
int linkat(int d1, const char *from, int d2, const char *to, int flags) {
    REFUSE("link", below(to)); REAL(linkat); return real(d1, from, d2, to, flags);
}
int fsync(int fd) { REFUSE("fsync", below_fd(fd)); REAL(fsync); return real(fd); }
int rename(const char *from, const char *to) {
    struct stat there;
    if (!stat(to, &there)) REFUSE("rename", below(to));
    REAL(rename);
    return real(from, to);
}
sem_t *sem_open(const char *name, int flags, ...) {
    int e = planned("sem_open");
    sem_t *(*real)(const char *, int, ...) = dlsym(RTLD_NEXT, "sem_open");
    if (e) { errno = e; return SEM_FAILED; }
    return real(name, flags, 0600, 1);
}
"""


def built(folder):
    """The library, compiled into ``folder``; ``None`` where there is no compiler for it."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    source, library = folder / "shim.c", folder / "shim.so"
    source.write_text("#include <sys/file.h>\n" + SOURCE)
    made = subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], capture_output=True
    )
    return library if made.returncode == 0 else None
