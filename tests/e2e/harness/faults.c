/*
 * Makes system calls fail, or hang, on demand: preloaded into a proxy, it stands before the C library.
 *
 * The file that FAULTS names is shared with the test: a rule for each call, in the order of CALLS, which
 * harness/faults.rs knows too. A rule that is off costs a load.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define CALLS(CALL) \
    CALL(accept4) CALL(bind) CALL(connect) CALL(epoll_create) CALL(epoll_create1) CALL(epoll_ctl) CALL(epoll_pwait) CALL(eventfd) \
    CALL(getsockname) CALL(getsockopt) CALL(listen) CALL(open64) CALL(pipe) CALL(pipe2) CALL(pthread_create) CALL(read) \
    CALL(recv) CALL(send) CALL(setsockopt) CALL(shutdown) CALL(sigaction) CALL(socket) CALL(socketpair) \
    CALL(write) CALL(writev)

enum {
#define CALL(name) call_##name,
    CALLS(CALL)
#undef CALL
    calls
};

enum { whole_process, workers, main_thread, hanging = -1 };

struct rule {
    int32_t error;   /* what errno shall be; `hanging` to wait until it is something else; 0: off */
    uint32_t threads;
    uint32_t skip;   /* so many calls pass first */
    uint32_t times;  /* then so many fail */
    uint32_t chance; /* each by this chance in 65536; 0: surely */
    uint32_t hits;   /* so many have failed */
    int32_t detail;  /* epoll_ctl: only this operation; 0: any */
};

static struct rule off[calls];
static struct rule *volatile rules;

static void open_rules(void) __attribute__((constructor));
static void open_rules(void) {
    const char *path = getenv("FAULTS");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *shared = MAP_FAILED;
    if (fd >= 0) {
        shared = mmap(0, sizeof off, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        close(fd);
    }
    rules = shared == MAP_FAILED ? off : shared;
}

static int on_wanted_thread(uint32_t threads) {
    char name[16] = "";
    pthread_getname_np(pthread_self(), name, sizeof name);
    int worker = !strncmp(name, "wrk:", 4);
    return threads == whole_process || (threads == workers) == worker;
}

/* Whether this call is to fail: its errno, or 0. */
static int fault(int call, int detail) {
    static __thread uint32_t seed;
    struct rule *rule = rules ? &rules[call] : &off[call];
    int error = __atomic_load_n(&rule->error, __ATOMIC_RELAXED);
    if (!error || (rule->detail && rule->detail != detail) || !on_wanted_thread(rule->threads))
        return 0;
    uint32_t left = __atomic_load_n(&rule->skip, __ATOMIC_RELAXED);
    while (left)
        if (__atomic_compare_exchange_n(&rule->skip, &left, left - 1, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            return 0;
    if (rule->chance) {
        if (!seed)
            seed = 2654435761u * (uint32_t)(uintptr_t)&seed | 1;
        seed = seed * 1664525u + 1013904223u;
        if (seed >> 16 >= rule->chance)
            return 0;
    }
    left = __atomic_load_n(&rule->times, __ATOMIC_RELAXED);
    do {
        if (!left)
            return 0;
    } while (!__atomic_compare_exchange_n(&rule->times, &left, left - 1, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    __atomic_add_fetch(&rule->hits, 1, __ATOMIC_RELAXED);
    while (error == hanging) {
        usleep(1000);
        error = __atomic_load_n(&rule->error, __ATOMIC_RELAXED);
    }
    return error;
}

#define WRAP(type, name, detail, parameters, arguments) \
    type name parameters { \
        static type(*real) parameters; \
        int error = fault(call_##name, detail); \
        if (error) { \
            errno = error; \
            return -1; \
        } \
        if (!real) \
            *(void **)&real = dlsym(RTLD_NEXT, #name); \
        return real arguments; \
    }

/* As accept does: what cannot be taken over has been taken from the queue all the same when it was aborted. */
int accept4(int fd, struct sockaddr *address, socklen_t *length, int flags) {
    static int (*real)(int, struct sockaddr *, socklen_t *, int);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "accept4");
    int accepted = -1, error = 0;
    struct rule *rule = rules ? &rules[call_accept4] : &off[call_accept4];
    if (rule->error == ECONNABORTED) {
        accepted = real(fd, address, length, flags);
        if (accepted < 0 || (error = fault(call_accept4, 0)) == 0)
            return accepted;
        close(accepted);
    } else if ((error = fault(call_accept4, 0)) == 0) {
        return real(fd, address, length, flags);
    }
    errno = error;
    return -1;
}

WRAP(int, bind, 0, (int fd, const struct sockaddr *a, socklen_t l), (fd, a, l))
WRAP(int, connect, 0, (int fd, const struct sockaddr *a, socklen_t l), (fd, a, l))
WRAP(int, epoll_create, 0, (int size), (size))
WRAP(int, epoll_create1, 0, (int flags), (flags))
WRAP(int, epoll_ctl, op, (int epoll, int op, int fd, struct epoll_event *e), (epoll, op, fd, e))
WRAP(int, epoll_pwait, 0, (int epoll, struct epoll_event *e, int most, int timeout, const sigset_t *mask),
     (epoll, e, most, timeout, mask))
WRAP(int, eventfd, 0, (unsigned int value, int flags), (value, flags))
WRAP(int, getsockname, 0, (int fd, struct sockaddr *a, socklen_t *l), (fd, a, l))
WRAP(int, getsockopt, 0, (int fd, int level, int name, void *v, socklen_t *l), (fd, level, name, v, l))
WRAP(int, listen, 0, (int fd, int backlog), (fd, backlog))
WRAP(int, pipe, 0, (int fds[2]), (fds))
WRAP(int, pipe2, 0, (int fds[2], int flags), (fds, flags))
WRAP(ssize_t, read, 0, (int fd, void *bytes, size_t size), (fd, bytes, size))
WRAP(ssize_t, recv, 0, (int fd, void *bytes, size_t size, int flags), (fd, bytes, size, flags))
WRAP(ssize_t, send, 0, (int fd, const void *bytes, size_t size, int flags), (fd, bytes, size, flags))
WRAP(int, setsockopt, 0, (int fd, int level, int name, const void *v, socklen_t l), (fd, level, name, v, l))
WRAP(int, shutdown, 0, (int fd, int how), (fd, how))
WRAP(int, sigaction, 0, (int number, const struct sigaction *new, struct sigaction *old), (number, new, old))
WRAP(int, socket, 0, (int family, int type, int protocol), (family, type, protocol))
WRAP(int, socketpair, 0, (int family, int type, int protocol, int fds[2]), (family, type, protocol, fds))
WRAP(ssize_t, write, fd, (int fd, const void *bytes, size_t size), (fd, bytes, size))
WRAP(ssize_t, writev, 0, (int fd, const struct iovec *parts, int count), (fd, parts, count))

/* legate reads and writes by it, so that no thread can be cancelled there. As many arguments as any call has are passed on. */
long syscall(long number, ...) {
    static long (*real)(long, ...);
    long a[6];
    va_list rest;
    va_start(rest, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(rest, long);
    va_end(rest);
    int error = number == SYS_recvfrom ? fault(call_recv, 0) : number == SYS_sendto ? fault(call_send, 0) : 0;
    if (error) {
        errno = error;
        return -1;
    }
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "syscall");
    return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

int open64(const char *path, int flags, ...) {
    static int (*real)(const char *, int, ...);
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    int error = fault(call_open64, 0);
    if (error) {
        errno = error;
        return -1;
    }
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "open64");
    return real(path, flags, mode);
}

/* Returns its error. */
int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *with) {
    static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    int error = fault(call_pthread_create, 0);
    if (error)
        return error;
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
    return real(thread, attributes, run, with);
}
