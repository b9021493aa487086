// liburing, for the load tester's yardstick. No logic lives here.
#ifndef GAVELCAST_CLIBURING_H
#define GAVELCAST_CLIBURING_H

// First, because liburing.h defines _GNU_SOURCE, under which these would differ from other modules' view of them.
#include <sched.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <liburing.h>

// Inline functions of the header that use C11 atomics are not shown to Swift.
static inline struct io_uring_sqe *gavelcast_uring_get_sqe(struct io_uring *ring) { return io_uring_get_sqe(ring); }
static inline void gavelcast_uring_advance(struct io_uring *ring, unsigned count) { io_uring_cq_advance(ring, count); }
static inline void gavelcast_uring_prep_send(struct io_uring_sqe *sqe, int descriptor, const void *bytes, size_t count, int flags) {
    io_uring_prep_send(sqe, descriptor, bytes, count, flags);
}

#endif
