/* Growing strings, and the encodings that S3's requests come in. */
#ifndef TEXT_H
#define TEXT_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    char *data; /* ends with NUL once something was added */
    size_t size, room;
} Text;

void text_add(Text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
void text_add_xml(Text *text, const char *raw);
void text_free(Text *text);

/* In place: %20 and, where `plus` is set, '+'. */
void url_decode(char *text, bool plus);
/* The decoded value of a query's parameter, to be freed; NULL if it is not there. */
char *query_value(const char *query, const char *name);
bool query_has(const char *query, const char *name);

/* In place: &amp; and the like. */
void xml_decode(char *text);
/* The text of the first <name> between `from` and `end`, to be freed, or NULL; `*rest` is set
   to what follows it. */
char *xml_value(const char *from, const char *end, const char *name, const char **rest);

/* A checksum as S3 writes it: 8 bytes, most significant first, in base64. */
enum { CRC_TEXT = 13 };
void crc_to_text(uint64_t crc, char text[CRC_TEXT]);
bool crc_from_text(const char *text, uint64_t *crc);
#endif
