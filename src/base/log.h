/* Messages to a person, on stderr: "sail: note: ...", "sail: warning: ...". Errors travel in sail_err instead. */
#ifndef SAIL_BASE_LOG_H
#define SAIL_BASE_LOG_H

#include <stdbool.h>

void log_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_warning(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_warning_once(const char *fmt, ...) __attribute__((format(printf, 1, 2))); /* the same words once in a process */
void log_quiet(bool quiet); /* notes are dropped, warnings stay */
void log_name(const char *name);  /* warnings of this process begin with it; the text stays the caller's */
/* From here on a warning that this process or its children (started later) have said already is not said again; false: all are said, as at the start. */
void log_each_once(bool once);
double clock_seconds(void); /* monotonic */
const char *clock_duration(char text[32], double seconds); /* "2h05m", "3m07s", "41s": text */

#endif
