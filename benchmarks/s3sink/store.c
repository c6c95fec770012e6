#define _GNU_SOURCE
#include "store.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "crc64.h"

typedef struct {
    char *name;
    Blob *blob;
} Object;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Object *objects; /* sorted by name */
static size_t count, room;
static Upload *uploads;
static atomic_ullong last_id;

static void out_of_memory(void) {
    perror("s3sink: memory");
    exit(1);
}

static Blob *blob_of(int segments) {
    Blob *blob = calloc(1, sizeof *blob + (size_t)segments * sizeof *blob->segments);
    if (!blob) out_of_memory();
    blob->holders = 1;
    blob->id = atomic_fetch_add(&last_id, 1) + 1;
    blob->made = time(NULL);
    blob->count = segments;
    return blob;
}

static void map_file(Segment *segment) {
    segment->file = memfd_create("s3sink", MFD_CLOEXEC);
    if (segment->file < 0 || ftruncate(segment->file, (off_t)segment->size)) out_of_memory();
    int access = PROT_READ | PROT_WRITE;
    segment->data = mmap(NULL, segment->size, access, MAP_SHARED, segment->file, 0);
    if (segment->data == MAP_FAILED) out_of_memory();
}

Blob *blob_new(size_t size, bool in_file, bool nowhere) {
    Blob *blob = blob_of(1);
    blob->size = size;
    Segment *segment = blob->segments;
    *segment = (Segment){.size = size, .file = -1};
    if (nowhere) return blob;
    if (in_file && size) map_file(segment);
    else if (!(segment->data = malloc(size + 1))) out_of_memory();
    return blob;
}

Blob *blob_join(Blob **parts, int number) {
    int segments = 0;
    for (int i = 0; i < number; i++) segments += parts[i]->count;
    Blob *blob = blob_of(segments);
    blob->has_crc = true;
    segments = 0;
    for (int i = 0; i < number; i++) {
        Blob *part = parts[i];
        blob->crc = i ? crc64_combine(blob->crc, part->crc, part->size) : part->crc;
        blob->has_crc &= part->has_crc;
        blob->size += part->size;
        memcpy(blob->segments + segments, part->segments, (size_t)part->count * sizeof(Segment));
        segments += part->count;
        part->count = 0;
    }
    return blob;
}

void blob_drop(Blob *blob) {
    if (!blob || __atomic_sub_fetch(&blob->holders, 1, __ATOMIC_ACQ_REL)) return;
    for (int i = 0; i < blob->count; i++) {
        Segment *segment = blob->segments + i;
        if (segment->file < 0) {
            free(segment->data);
        } else {
            munmap(segment->data, segment->size);
            close(segment->file);
        }
    }
    free(blob);
}

/* With "-1", as after an upload in parts: no client takes it for an MD5. */
void blob_etag(const Blob *blob, char etag[ETAG]) {
    snprintf(etag, ETAG, "\"%032llx-1\"", (unsigned long long)blob->id);
}

/* Where `name` is, or would be. */
static size_t position(const char *name) {
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (strcmp(objects[middle].name, name) < 0) low = middle + 1;
        else high = middle;
    }
    return low;
}

static bool is_at(size_t at, const char *name) {
    return at < count && !strcmp(objects[at].name, name);
}

static void insert(size_t at, const char *name, Blob *blob) {
    if (count == room) {
        room = 2 * room + 256;
        objects = realloc(objects, room * sizeof *objects);
        if (!objects) out_of_memory();
    }
    memmove(objects + at + 1, objects + at, (count++ - at) * sizeof *objects);
    objects[at] = (Object){strdup(name), blob};
}

static Stored judge(const Object *there, Condition condition) {
    if (there && condition.must_be_new) return DIFFERS;
    if (!condition.must_match) return STORED;
    if (!there) return MISSING;
    char etag[ETAG];
    blob_etag(there->blob, etag);
    /* Some clients leave the quotes out. */
    bool same = !strcmp(etag, condition.must_match) || !strcmp(condition.must_match, "*") ||
                (strlen(etag) == strlen(condition.must_match) + 2 &&
                 !strncmp(etag + 1, condition.must_match, strlen(condition.must_match)));
    return same ? STORED : DIFFERS;
}

Stored store_put(const char *name, Blob *blob, Condition condition) {
    Blob *old = NULL;
    pthread_mutex_lock(&lock);
    size_t at = position(name);
    Object *there = is_at(at, name) ? objects + at : NULL;
    Stored verdict = judge(there, condition);
    if (verdict == STORED && there) {
        old = there->blob;
        there->blob = blob;
    } else if (verdict == STORED) {
        insert(at, name, blob);
    }
    pthread_mutex_unlock(&lock);
    blob_drop(old);
    return verdict;
}

Blob *store_get(const char *name) {
    pthread_mutex_lock(&lock);
    size_t at = position(name);
    Blob *blob = is_at(at, name) ? objects[at].blob : NULL;
    if (blob) __atomic_add_fetch(&blob->holders, 1, __ATOMIC_ACQ_REL);
    pthread_mutex_unlock(&lock);
    return blob;
}

void store_delete(const char *name) {
    Object gone = {0};
    pthread_mutex_lock(&lock);
    size_t at = position(name);
    if (is_at(at, name)) {
        gone = objects[at];
        memmove(objects + at, objects + at + 1, (--count - at) * sizeof *objects);
    }
    pthread_mutex_unlock(&lock);
    free(gone.name);
    blob_drop(gone.blob);
}

void store_each(const char *prefix, const char *after,
                bool (*visit)(void *with, const char *name, const Blob *blob), void *with) {
    size_t size = strlen(prefix);
    pthread_mutex_lock(&lock);
    size_t at = position(strcmp(after, prefix) > 0 ? after : prefix);
    if (is_at(at, after)) at++;
    for (; at < count && !strncmp(objects[at].name, prefix, size); at++)
        if (!visit(with, objects[at].name, objects[at].blob)) break;
    pthread_mutex_unlock(&lock);
}

uint64_t upload_new(const char *name, bool full_crc) {
    Upload *upload = calloc(1, sizeof *upload);
    if (!upload) out_of_memory();
    upload->id = atomic_fetch_add(&last_id, 1) + 1;
    upload->begun = time(NULL);
    upload->name = strdup(name);
    upload->full_crc = full_crc;
    uint64_t id = upload->id; /* before another thread can see it, and take it away */
    upload_give_back(upload);
    return id;
}

static Upload **find(const char *name, uint64_t id) {
    Upload **at = &uploads;
    while (*at && ((*at)->id != id || strcmp((*at)->name, name))) at = &(*at)->next;
    return at;
}

bool upload_part(const char *name, uint64_t id, int number, Blob *blob) {
    pthread_mutex_lock(&lock);
    Upload *upload = *find(name, id);
    Blob *old = NULL;
    if (upload) {
        old = upload->parts[number];
        upload->parts[number] = blob;
    }
    pthread_mutex_unlock(&lock);
    blob_drop(old);
    return upload != NULL;
}

Upload *upload_take(const char *name, uint64_t id) {
    pthread_mutex_lock(&lock);
    Upload **at = find(name, id), *upload = *at;
    if (upload) *at = upload->next;
    pthread_mutex_unlock(&lock);
    return upload;
}

void upload_give_back(Upload *upload) {
    pthread_mutex_lock(&lock);
    upload->next = uploads;
    uploads = upload;
    pthread_mutex_unlock(&lock);
}

void upload_drop(Upload *upload) {
    for (int number = 0; number <= MOST_PARTS; number++) blob_drop(upload->parts[number]);
    free(upload->name);
    free(upload);
}

void upload_each(const char *prefix, void (*visit)(void *with, const Upload *upload), void *with) {
    pthread_mutex_lock(&lock);
    for (const Upload *upload = uploads; upload; upload = upload->next)
        if (!strncmp(upload->name, prefix, strlen(prefix))) visit(with, upload);
    pthread_mutex_unlock(&lock);
}
