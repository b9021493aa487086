// OpenSSL's digests, signatures and key derivation.
#ifndef GAVELCAST_COPENSSL_H
#define GAVELCAST_COPENSSL_H

#include <openssl/evp.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <openssl/sha.h>

#endif
