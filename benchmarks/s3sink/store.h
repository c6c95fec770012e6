/* What the server holds: objects in the order of their keys, and uploads in parts. */
#ifndef STORE_H
#define STORE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

enum { MOST_PARTS = 10000, ETAG = 40 };

/* A run of bytes: in a mapped file, in memory (file -1), or thrown away (data NULL). */
typedef struct {
    size_t size;
    char *data;
    int file;
} Segment;

/* Bytes that never change. Shared: freed when nobody holds them. */
typedef struct {
    int holders;
    uint64_t id; /* no two blobs have the same: the entity tag is made from it */
    time_t made;
    size_t size;
    bool has_crc;
    uint64_t crc;
    int count;
    Segment segments[];
} Blob;

/* One segment of memory (`in_file`: a mapped file; `nowhere`: none at all). */
Blob *blob_new(size_t size, bool in_file, bool nowhere);
/* `count` blobs in a row as one; theirs is no longer. */
Blob *blob_join(Blob **parts, int count);
void blob_drop(Blob *blob);
/* Quotes included. */
void blob_etag(const Blob *blob, char etag[ETAG]);

/* Whether a write may be: If-None-Match: *, If-Match: `must_match`. NULL, false: always. */
typedef struct {
    bool must_be_new;
    const char *must_match;
} Condition;
typedef enum { STORED, DIFFERS, MISSING } Stored;

/* Names are /bucket/key. `blob` is the store's from then on, unless it is refused. */
Stored store_put(const char *name, Blob *blob, Condition condition);
/* To be dropped, or NULL. */
Blob *store_get(const char *name);
void store_delete(const char *name);
/* Calls `visit` for each name after `after` that begins with `prefix`, in order, until it
   says no. It must not call the store. */
void store_each(const char *prefix, const char *after,
                bool (*visit)(void *with, const char *name, const Blob *blob), void *with);

typedef struct Upload {
    struct Upload *next;
    uint64_t id;
    time_t begun;
    char *name;
    bool full_crc; /* begun with a checksum of the whole, as CRC64NVME always is */
    Blob *parts[MOST_PARTS + 1];
} Upload;

uint64_t upload_new(const char *name, bool full_crc);
/* False: there is no such upload. */
bool upload_part(const char *name, uint64_t id, int number, Blob *blob);
/* Takes the upload out of the store; NULL: there is none. Give it back or drop it. */
Upload *upload_take(const char *name, uint64_t id);
void upload_give_back(Upload *upload);
void upload_drop(Upload *upload);
void upload_each(const char *prefix, void (*visit)(void *with, const Upload *upload), void *with);
#endif
