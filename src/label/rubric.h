/* What a text judge is asked, and how its verdict is read from what it writes: "points", "aspect", "pair" or a file (docs/labelers.md). */
#ifndef SAIL_LABEL_RUBRIC_H
#define SAIL_LABEL_RUBRIC_H

#include <stdbool.h>

#include "base/mem.h"

struct rubric;
int rubric_open(struct rubric **out, const char *name_or_path, sail_err *err);
void rubric_close(struct rubric *r);
bool rubric_is_pair(const struct rubric *r);      /* two answers in one question; else one */
const char *rubric_system(const struct rubric *r); /* NULL: none */
/* Appends the question. b: NULL where one answer is judged. */
bool rubric_ask(const struct rubric *r, const char *question, const char *a, const char *b, struct buf *out);
/* The verdict in a judge's text: points; of a pair 1 (the first wins), 0 or 1/2. NaN where there is none, where one contradicts another, where points are out of range, and where it touches the end
 * of a text that was cut off (finished false). */
double rubric_read(const struct rubric *r, const char *text, bool finished);

#endif
