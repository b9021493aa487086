// zlib. Its initialisers are macros; no logic lives here.
#ifndef GAVELCAST_CZLIB_H
#define GAVELCAST_CZLIB_H

#include <zlib.h>

// A negative number of window bits means raw deflate, without zlib's header and sum.
static inline int gavelcast_deflate_init(z_stream *stream, int window_bits, int memory_level) {
    return deflateInit2(stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -window_bits, memory_level, Z_DEFAULT_STRATEGY);
}
// 16 more bits mean gzip's header and sum.
static inline int gavelcast_gzip_init(z_stream *stream) {
    return deflateInit2(stream, Z_BEST_COMPRESSION, Z_DEFLATED, MAX_WBITS + 16, 9, Z_DEFAULT_STRATEGY);
}
static inline int gavelcast_inflate_init(z_stream *stream) { return inflateInit2(stream, -MAX_WBITS); }

#endif
