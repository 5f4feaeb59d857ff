/* Methods of str, with Python's signatures: string_methods.c has the table and those that write the string another way, the others are here by their file. */
#ifndef SAIL_TEMPLATE_STRING_METHODS_H
#define SAIL_TEMPLATE_STRING_METHODS_H

#include "template/eval.h"

#define METHOD(name) struct value name(struct jinja *j, struct value self, struct value *a, const struct call *c)
#define UNUSED(x) (void)(x)

/* string_search.c */
const char *string_find_last(const struct string *s, const struct string *what); /* NULL: nowhere */
METHOD(str_find);
METHOD(str_rfind);
METHOD(str_index);
METHOD(str_rindex);
METHOD(str_count);
METHOD(str_startswith);
METHOD(str_endswith);
METHOD(str_removeprefix);
METHOD(str_removesuffix);

/* string_split.c */
METHOD(str_split);
METHOD(str_rsplit);
METHOD(str_splitlines);
METHOD(str_partition);
METHOD(str_rpartition);
METHOD(str_join);

/* string_kinds.c */
METHOD(str_isalpha);
METHOD(str_isalnum);
METHOD(str_isdecimal);
METHOD(str_isdigit);
METHOD(str_isnumeric);
METHOD(str_isspace);
METHOD(str_isprintable);
METHOD(str_isascii);
METHOD(str_isidentifier);
METHOD(str_islower);
METHOD(str_isupper);
METHOD(str_istitle);

#endif
