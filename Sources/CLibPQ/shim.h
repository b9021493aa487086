// libpq, PostgreSQL's C client.
#ifndef GAVELCAST_CLIBPQ_H
#define GAVELCAST_CLIBPQ_H

#include <postgresql/libpq-fe.h>

#endif
