/*
 * What a module needs that passes calls on to another one. Include it once, after these:
 *   #define MODULE "NAME"             the environment variable that names the other module
 *   static void wrap(void);           puts its own functions into `wrapped`, which is a copy of `real` by then
 *
 * Written from the OASIS standard's function list and structures (PKCS#11 v2.40, base specification): on Unix every
 * parameter is a pointer or a CK_ULONG, both as wide as `unsigned long`, and structures have their natural alignment.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>

typedef unsigned long word;
typedef word (*function)(word, word, word, word, word);

enum { FUNCTIONS = 68, C_GetFunctionList = 3 }; /* the place in the standard's order, counted from 0 */
#define CKR_OK 0ul
#define CKR_GENERAL_ERROR 0x5ul
#define CKR_BUFFER_TOO_SMALL 0x150ul

/* CK_FUNCTION_LIST: the version, padded to a pointer's width, then the functions in the standard's order. */
struct function_list {
  unsigned char version[sizeof(void *)];
  function call[FUNCTIONS];
};

struct mechanism { /* CK_MECHANISM */
  word type;
  void *parameter;
  word length;
};

struct attribute { /* CK_ATTRIBUTE */
  word type;
  void *value;
  word length;
};

static struct function_list *real, wrapped;

static void wrap(void);

static word function_list(word list, word b, word c, word d, word e) {
  (void)b, (void)c, (void)d, (void)e;
  *(struct function_list **)list = &wrapped;
  return CKR_OK;
}

static void load(void) {
  const char *path = getenv(MODULE);
  void *module = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
  function get = module ? (function)dlsym(module, "C_GetFunctionList") : NULL;
  if (!get || get((word)&real, 0, 0, 0, 0) != CKR_OK) {
    real = NULL;
    return;
  }
  wrapped = *real;
  wrapped.call[C_GetFunctionList] = function_list;
  wrap();
}

/* The one name that a program looks up. */
word C_GetFunctionList_entry(struct function_list **list) __asm__("C_GetFunctionList");
word C_GetFunctionList_entry(struct function_list **list) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, load);
  if (!real) return CKR_GENERAL_ERROR;
  *list = &wrapped;
  return CKR_OK;
}
