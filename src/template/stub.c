#include "template/template.h"
#include "base/err.h"
int template_open(struct chat_template **o,const char*p,sail_err*e){(void)p;*o=0;return err_set(e, SAIL_FAILED, "chat templates are not in this build");}
bool template_exists(const char*p){(void)p;return false;}
void template_close(struct chat_template*t){(void)t;}
int template_render(const struct chat_template*t,json_t*r,const struct template_options*o,struct buf*b,sail_err*e){(void)t;(void)r;(void)o;(void)b;return err_set(e, SAIL_FAILED, "chat templates are not in this build");}
