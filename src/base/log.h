/* Messages to a person, on stderr: "sail: note: ...", "sail: warning: ...". Errors travel in sail_err instead. */
#ifndef SAIL_BASE_LOG_H
#define SAIL_BASE_LOG_H

#include <stdbool.h>

void log_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_warning(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_quiet(bool quiet); /* notes are dropped, warnings stay */
double clock_seconds(void); /* monotonic */

#endif
