/* The request to stop: long work asks at step boundaries and finishes cleanly. */
#ifndef SAIL_BASE_INTERRUPT_H
#define SAIL_BASE_INTERRUPT_H

#include <stdbool.h>

bool interrupt_asked(void);

#endif
