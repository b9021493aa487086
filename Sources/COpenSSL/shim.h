// OpenSSL's digests, signatures and key derivation.
#ifndef GAVELCAST_COPENSSL_H
#define GAVELCAST_COPENSSL_H

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/param_build.h>
#include <openssl/rand.h>
#include <openssl/sha.h>

// Expressions that are not imported as they are.
static const int gavelcast_pkey_public_key = EVP_PKEY_PUBLIC_KEY;
static const int gavelcast_pkey_keypair = EVP_PKEY_KEYPAIR;

// Names that OpenSSL keeps pointers to.
static const char *const gavelcast_param_group = OSSL_PKEY_PARAM_GROUP_NAME;
static const char *const gavelcast_param_public = OSSL_PKEY_PARAM_PUB_KEY;
static const char *const gavelcast_param_private = OSSL_PKEY_PARAM_PRIV_KEY;
static const char *const gavelcast_curve = "prime256v1";
static const char *const gavelcast_key_type = "EC";

#endif
