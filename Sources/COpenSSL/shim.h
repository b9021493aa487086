// OpenSSL's digests, signatures, key derivation and TLS. Function-like macros have wrappers; no logic lives here.
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
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

// Expressions that are not imported as they are.
static const int gavelcast_pkey_public_key = EVP_PKEY_PUBLIC_KEY;
static const int gavelcast_pkey_keypair = EVP_PKEY_KEYPAIR;

// Names that OpenSSL keeps pointers to.
static const char *const gavelcast_param_group = OSSL_PKEY_PARAM_GROUP_NAME;
static const char *const gavelcast_param_public = OSSL_PKEY_PARAM_PUB_KEY;
static const char *const gavelcast_param_private = OSSL_PKEY_PARAM_PRIV_KEY;
static const char *const gavelcast_curve = "prime256v1";
static const char *const gavelcast_key_type = "EC";

// TLS
static inline long gavelcast_ssl_mode(SSL_CTX *context, long mode) { return SSL_CTX_set_mode(context, mode); }
static inline long gavelcast_ssl_clear_mode(SSL_CTX *context, long mode) { return SSL_CTX_clear_mode(context, mode); }
// These flags are expressions that are not imported.
static inline uint64_t gavelcast_ssl_server_options(SSL_CTX *context) {
    return SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                                            SSL_OP_PRIORITIZE_CHACHA);
}
static inline int gavelcast_ssl_versions(SSL_CTX *context, int least, int greatest) {
    return SSL_CTX_set_min_proto_version(context, least) && SSL_CTX_set_max_proto_version(context, greatest);
}
static inline long gavelcast_ssl_no_cache(SSL_CTX *context) { return SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF); }
static inline long gavelcast_ssl_groups(SSL_CTX *context, const char *list) { return SSL_CTX_set1_groups_list(context, list); }
static inline long gavelcast_ssl_on_server_name(SSL_CTX *context, int (*callback)(SSL *, int *, void *), void *argument) {
    SSL_CTX_set_tlsext_servername_callback(context, callback);
    return SSL_CTX_set_tlsext_servername_arg(context, argument);
}
static inline long gavelcast_ssl_get_ticket_keys(SSL_CTX *context, void *keys, long count) {
    return SSL_CTX_get_tlsext_ticket_keys(context, keys, count);
}
static inline long gavelcast_ssl_set_ticket_keys(SSL_CTX *context, void *keys, long count) {
    return SSL_CTX_set_tlsext_ticket_keys(context, keys, count);
}
static inline long gavelcast_ssl_host_name(SSL *ssl, const char *name) { return SSL_set_tlsext_host_name(ssl, name); }
static inline void gavelcast_bio_retry_read(BIO *bio) { BIO_set_retry_read(bio); }
static inline void gavelcast_bio_retry_write(BIO *bio) { BIO_set_retry_write(bio); }
static inline void gavelcast_bio_clear_retry(BIO *bio) { BIO_clear_retry_flags(bio); }

#endif
