/* What S3 answers to what it is asked. Signatures are not looked at. */
#ifndef S3_H
#define S3_H
#include "http.h"
#include "store.h"

typedef struct {
    bool keep;    /* large bodies stay, in memory */
    bool verify;  /* the checksum of large bodies is computed, not believed */
    size_t small; /* bodies of at most this many bytes are kept and verified in any case */
} Settings;
extern Settings settings;

/* Answers one request. False: the connection is of no use any more. */
bool s3_answer(Request *request);

/* The body as a blob. NULL: it broke off (`*usable` is false), or had another checksum than the
   client named, which has been answered. */
Blob *s3_receive(Request *request, bool *usable);
/* The whole body as text, or NULL when it broke off. */
char *s3_receive_text(Request *request, size_t *size);
/* The conditions of a write; `*etag` is to be freed. */
Condition s3_condition(const Request *request, char **etag);
/* Answers a write that its condition forbids. */
bool s3_refuse(Request *request, Stored verdict);
/* Header lines with what is known of a blob. */
void s3_describe(Text *lines, const Blob *blob, bool checksum);
void s3_add_time(Text *xml, const char *tag, time_t when);

bool s3_list(Request *request, const char *bucket);
bool s3_list_uploads(Request *request, const char *bucket);
bool s3_begin_upload(Request *request);
bool s3_put_part(Request *request);
bool s3_complete(Request *request);
bool s3_abort(Request *request);
#endif
