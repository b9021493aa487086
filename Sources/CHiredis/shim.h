// hiredis as a codec: the reply reader and the command formatter. Its sockets and event loop are not used.
#ifndef GAVELCAST_CHIREDIS_H
#define GAVELCAST_CHIREDIS_H

#include <hiredis/hiredis.h>
#include <hiredis/read.h>

#endif
