#define _GNU_SOURCE
#include "text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void make_room(Text *text, size_t more) {
    if (text->size + more + 1 <= text->room) return;
    text->room = 2 * (text->size + more) + 256;
    text->data = realloc(text->data, text->room);
    if (!text->data) abort();
}

void text_add(Text *text, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    make_room(text, (size_t)size);
    va_start(arguments, format);
    vsnprintf(text->data + text->size, (size_t)size + 1, format, arguments);
    va_end(arguments);
    text->size += (size_t)size;
}

void text_add_xml(Text *text, const char *raw) {
    for (; *raw; raw++) switch (*raw) {
            case '&': text_add(text, "&amp;"); break;
            case '<': text_add(text, "&lt;"); break;
            case '>': text_add(text, "&gt;"); break;
            case '"': text_add(text, "&quot;"); break;
            default:
                make_room(text, 1);
                text->data[text->size++] = *raw;
                text->data[text->size] = 0;
        }
}

void text_free(Text *text) {
    free(text->data);
    *text = (Text){0};
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

void url_decode(char *text, bool plus) {
    char *to = text;
    for (const char *from = text; *from; from++) {
        if (*from == '%' && hex_digit(from[1]) >= 0 && hex_digit(from[2]) >= 0) {
            *to++ = (char)(hex_digit(from[1]) * 16 + hex_digit(from[2]));
            from += 2;
        } else {
            *to++ = plus && *from == '+' ? ' ' : *from;
        }
    }
    *to = 0;
}

static const char *query_find(const char *query, const char *name) {
    size_t size = strlen(name);
    for (const char *at = query; at && *at; at = strchr(at, '&')) {
        at += *at == '&';
        if (!strncmp(at, name, size) && (!at[size] || strchr("=&", at[size]))) return at + size;
    }
    return NULL;
}

bool query_has(const char *query, const char *name) { return query_find(query, name) != NULL; }

char *query_value(const char *query, const char *name) {
    const char *at = query_find(query, name);
    if (!at) return NULL;
    at += *at == '=';
    char *value = strndup(at, strcspn(at, "&"));
    url_decode(value, true);
    return value;
}

void xml_decode(char *text) {
    static const struct {
        const char *name;
        char is;
    } known[] = {{"&amp;", '&'},  {"&lt;", '<'},   {"&gt;", '>'},
                 {"&quot;", '"'}, {"&apos;", '\''}, {"&#34;", '"'}, {"&#39;", '\''}};
    char *to = text;
    for (const char *from = text; *from; to++) {
        *to = *from++;
        if (*to != '&') continue;
        for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
            size_t size = strlen(known[i].name);
            if (strncmp(from - 1, known[i].name, size)) continue;
            *to = known[i].is;
            from += size - 1;
            break;
        }
    }
    *to = 0;
}

char *xml_value(const char *from, const char *end, const char *name, const char **rest) {
    char tag[64];
    int size = snprintf(tag, sizeof tag, "<%s>", name);
    const char *start = memmem(from, (size_t)(end - from), tag, (size_t)size);
    if (!start) return NULL;
    start += size;
    size = snprintf(tag, sizeof tag, "</%s>", name);
    const char *stop = memmem(start, (size_t)(end - start), tag, (size_t)size);
    if (!stop) return NULL;
    *rest = stop + size;
    return strndup(start, (size_t)(stop - start));
}

static const char BASE64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void crc_to_text(uint64_t crc, char text[CRC_TEXT]) {
    for (int digit = 0; digit < 11; digit++) {
        int shift = 58 - 6 * digit; /* the last digit holds four bits and two zeros */
        text[digit] = BASE64[(shift >= 0 ? crc >> shift : crc << 2) & 63];
    }
    memcpy(text + 11, "=", 2);
}

bool crc_from_text(const char *text, uint64_t *crc) {
    *crc = 0;
    for (int digit = 0; digit < 11; digit++) {
        const char *at = text[digit] ? strchr(BASE64, text[digit]) : NULL;
        if (!at) return false;
        uint64_t value = (uint64_t)(at - BASE64);
        *crc = digit < 10 ? *crc << 6 | value : *crc << 4 | value >> 2;
    }
    return text[11] == '=';
}
