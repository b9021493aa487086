// The Linux calls and constants that Swift's Glibc module does not show, and wrappers of function-like macros.
// No logic lives here.
#ifndef GAVELCAST_CLINUX_H
#define GAVELCAST_CLINUX_H

#include <errno.h>
#include <malloc.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

// GNU's own, which the headers show under _GNU_SOURCE only; defining that here would make this module's view of the
// shared headers differ from Glibc's.
extern int accept4(int descriptor, struct sockaddr *address, socklen_t *length, int flags);
extern int pthread_setname_np(pthread_t thread, const char *name);
extern int close_range(unsigned first, unsigned last, int flags);
extern void *memmem(const void *haystack, size_t count, const void *needle, size_t needle_count);

static inline int gavelcast_errno(void) { return errno; }

// epoll_event is packed on x86-64; writing the union through C keeps the layout the kernel's.
static inline int gavelcast_epoll_ctl(int epoll, int operation, int descriptor, uint32_t events, uint64_t token) {
    struct epoll_event event = {.events = events, .data = {.u64 = token}};
    return epoll_ctl(epoll, operation, descriptor, &event);
}
static inline uint64_t gavelcast_epoll_token(const struct epoll_event *event) { return event->data.u64; }

// The anonymous enums behind these names are typed differently on each platform.
enum { gavelcast_datagram = SOCK_DGRAM };
enum { gavelcast_stream = SOCK_STREAM, gavelcast_nonblocking = SOCK_NONBLOCK, gavelcast_cloexec = SOCK_CLOEXEC };
enum { gavelcast_eventfd_flags = EFD_NONBLOCK | EFD_CLOEXEC };
static inline int gavelcast_send_flags(void) { return MSG_DONTWAIT | MSG_NOSIGNAL; }
// CLOSE_RANGE_UNSHARE: the calling thread gets a table of open files of its own, without those from 3 on.
static inline int gavelcast_own_descriptors(void) { return close_range(3, ~0U, 1U << 1); }
// `stdout` is a variable that any thread might set, which Swift refuses to touch.
static inline void gavelcast_print_by_line(void) { setvbuf(stdout, NULL, _IOLBF, 0); }
// One bit a processor; the C library's set type is a macro's and shown under _GNU_SOURCE only.
static inline long gavelcast_pin_to_core(int core) {
    unsigned long set[16] = {0};
    set[core / (8 * sizeof *set)] = 1UL << (core % (8 * sizeof *set));
    return syscall(SYS_sched_setaffinity, 0, sizeof set, set);
}
// The most descriptors that one message of a Unix socket carries (SCM_MAX_FD).
enum { gavelcast_most_descriptors = 253 };
// Sends bytes together with at most gavelcast_most_descriptors descriptors, which the receiver gets copies of.
static inline ssize_t gavelcast_send_descriptors(int socket, const void *bytes, size_t count, const int *descriptors, size_t descriptor_count) {
    union { char bytes[CMSG_SPACE(sizeof(int) * gavelcast_most_descriptors)]; struct cmsghdr alignment; } control;
    struct iovec part = {.iov_base = (void *)bytes, .iov_len = count};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (descriptor_count > 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * descriptor_count);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int) * descriptor_count);
        memcpy(CMSG_DATA(header), descriptors, sizeof(int) * descriptor_count);
    }
    return sendmsg(socket, &message, MSG_NOSIGNAL);
}
// Receives bytes and the descriptors that came with them; `descriptors` has room for gavelcast_most_descriptors.
// `is_cut` says that the process may open no more of them.
static inline ssize_t gavelcast_receive_descriptors(int socket, void *bytes, size_t count, int *descriptors, size_t *descriptor_count, int *is_cut) {
    union { char bytes[CMSG_SPACE(sizeof(int) * gavelcast_most_descriptors)]; struct cmsghdr alignment; } control;
    struct iovec part = {.iov_base = bytes, .iov_len = count};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    ssize_t received = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    *descriptor_count = 0;
    *is_cut = received >= 0 && (message.msg_flags & MSG_CTRUNC) != 0;
    if (received < 0) return received;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
        *descriptor_count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(descriptors, CMSG_DATA(header), *descriptor_count * sizeof(int));
    }
    return received;
}
// Who is at the other end of a Unix socket; 0 on success.
static inline int gavelcast_peer(int socket, pid_t *process, uid_t *user) {
    struct { pid_t process; uid_t user; gid_t group; } peer;
    socklen_t size = sizeof peer;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return -1;
    *process = peer.process;
    *user = peer.user;
    return 0;
}
static inline int gavelcast_rlimit_descriptors(struct rlimit *limit) { return getrlimit(RLIMIT_NOFILE, limit); }
static inline int gavelcast_set_rlimit_descriptors(const struct rlimit *limit) { return setrlimit(RLIMIT_NOFILE, limit); }

#endif
