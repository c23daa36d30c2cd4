/*
 * Loaded with LD_PRELOAD: notes, for each append-only file, how long it was when an fsync of it began that succeeded. Only so much of it
 * is certain to be there after a power cut; the rest is in the page cache, which `kill -9` does not lose.
 * A file that may not grow any more is an error to it, as a full disk is, and not its death (SIGXFSZ).
 * FSYNC_SPY names the file that a line "SIZE PATH" is appended to each time.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

__attribute__((constructor)) static void begin(void) { signal(SIGXFSZ, SIG_IGN); }

static long long size_of(int fd) {
  struct stat status;
  return fstat(fd, &status) == 0 ? (long long)status.st_size : -1;
}

static void note(int fd, long long size) {
  char link[64], path[PATH_MAX], line[PATH_MAX + 32];
  const char *log = getenv("FSYNC_SPY");
  if (!log || size < 0) return;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return;
  path[length] = 0;
  if (!strstr(path, ".aof")) return;
  int out = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
  if (out < 0) return;
  int bytes = snprintf(line, sizeof line, "%lld %s\n", size, path);
  if (write(out, line, bytes) != bytes) abort();
  close(out);
}

int fdatasync(int fd) {
  int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
  long long size = size_of(fd);
  int result = real(fd);
  if (result == 0) note(fd, size);
  return result;
}

int fsync(int fd) {
  int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
  long long size = size_of(fd);
  int result = real(fd);
  if (result == 0) note(fd, size);
  return result;
}
