#include "base/interrupt.h"

#include <signal.h>

#include "sail.h"

static volatile sig_atomic_t asked;

void sail_interrupt(void) { asked = 1; }
bool interrupt_asked(void) { return asked != 0; }
