/*
 * A PKCS#11 module that passes every call on to another module, and goes wrong where a file says so.
 *
 * Environment:
 *   PKCS11_SHIM_MODULE   the module that does the work
 *   PKCS11_SHIM_RULES    the rules; read again at every call, so that a test changes them while a process runs
 *   PKCS11_SHIM_LOG      one line for each call, appended: process id, function, detail
 *
 * A rule is a line of words: the function, then NAME=NUMBER (0x... is hexadecimal), NAME=HEX for text, or a bare NAME.
 *   id=N                 tells this rule's counter from the others'
 *   slot=N only=N        the rule is for that slot, or that detail, only (see `detail` below)
 *   skip=N times=N       leave the first N calls alone; then apply to so many (default: all), in one process
 *   out=HEX err=HEX      write this to file descriptor 1 or 2
 *   sleep=N              milliseconds before the call
 *   hang, crash          never return; abort()
 *   return=N             answer this CKR without calling the module; with `after`, call it and answer this all the same
 *   label=HEX serial=HEX the text of C_GetTokenInfo (label, serialNumber), C_GetSlotInfo (slotDescription, -) and
 *                        C_GetInfo (libraryDescription, -); blanks fill it up
 *   set=N clear=N        flags of C_GetTokenInfo and C_GetSlotInfo
 *   min-pin=N max-pin=N  of C_GetTokenInfo
 *   pad-pin=HEX          what C_Login is given where the program gave it no PIN: as if somebody had used a PIN pad
 *   hide=N add=N         a mechanism taken out of, or added to, C_GetMechanismList
 *
 * The detail is: C_Login's user type; C_SignInit's and C_GenerateKeyPair's mechanism; the first type of
 * C_GetAttributeValue; for C_Sign 1 with a buffer and 0 for the question after the length; otherwise 0. A C_Login
 * without a PIN has a second line, as C_Login(NULL).
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MODULE "PKCS11_SHIM_MODULE"
#include "wrapped_module.h"

typedef void (*any_function)(void);

enum { MAX_TEXT = 512, MAX_RULES = 256, MAX_SESSIONS = 512, MAX_MECHANISMS = 1024 };
#define ANY (~0ul)

struct token_info { /* CK_TOKEN_INFO */
  unsigned char label[32], manufacturer[32], model[16], serial[16];
  word flags, max_sessions, sessions, max_rw_sessions, rw_sessions, max_pin, min_pin, memory[4];
  unsigned char versions[4], time[16];
};

struct slot_info { /* CK_SLOT_INFO */
  unsigned char description[64], manufacturer[32];
  word flags;
  unsigned char versions[4];
};

struct info { /* CK_INFO */
  unsigned char version[2], manufacturer[32];
  word flags;
  unsigned char description[32], library_version[2];
};

/* Places in the standard's order, counted from 0. */
enum {
  C_Initialize = 0, C_Finalize = 1, C_GetInfo = 2, C_GetSlotList = 4, C_GetSlotInfo = 5,
  C_GetTokenInfo = 6, C_GetMechanismList = 7, C_OpenSession = 12, C_CloseSession = 13, C_Login = 18, C_Logout = 19,
  C_CreateObject = 20, C_DestroyObject = 22, C_GetAttributeValue = 24, C_FindObjectsInit = 26, C_FindObjects = 27, C_FindObjectsFinal = 28, C_SignInit = 42,
  C_Sign = 43, C_GenerateKeyPair = 59
};

struct text {
  int given, length;
  unsigned char bytes[MAX_TEXT];
};

struct rule {
  word id, slot, only, skip, times, sleep, result, set, clear, min_pin, max_pin, hide, add;
  int hang, crash, after;
  struct text out, err, label, serial, pad_pin;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct { word id, matches; } counters[MAX_RULES];
static struct { word handle, slot; int used; } sessions[MAX_SESSIONS];

static void parse_text(const char *hex, struct text *text) {
  unsigned int byte;
  text->given = 1;
  for (text->length = 0; text->length < MAX_TEXT && sscanf(hex, "%2x", &byte) == 1; hex += 2)
    text->bytes[text->length++] = (unsigned char)byte;
}

/* Fills in a rule from the words after the function's name. */
static void parse(char *words, struct rule *rule) {
  struct { const char *name; word *number; } numbers[] = {
    {"id", &rule->id}, {"slot", &rule->slot}, {"only", &rule->only}, {"skip", &rule->skip}, {"times", &rule->times},
    {"sleep", &rule->sleep}, {"return", &rule->result}, {"set", &rule->set}, {"clear", &rule->clear},
    {"min-pin", &rule->min_pin}, {"max-pin", &rule->max_pin}, {"hide", &rule->hide}, {"add", &rule->add},
  };
  struct { const char *name; struct text *text; } texts[] = {
    {"out", &rule->out}, {"err", &rule->err}, {"label", &rule->label}, {"serial", &rule->serial},
    {"pad-pin", &rule->pad_pin},
  };
  char *rest = NULL;
  memset(rule, 0, sizeof *rule);
  rule->slot = rule->only = rule->times = rule->result = rule->min_pin = rule->max_pin = rule->hide = rule->add = ANY;
  for (char *part = strtok_r(words, " \n", &rest); part; part = strtok_r(NULL, " \n", &rest)) {
    char *value = strchr(part, '=');
    if (!value) {
      rule->hang |= !strcmp(part, "hang");
      rule->crash |= !strcmp(part, "crash");
      rule->after |= !strcmp(part, "after");
      continue;
    }
    *value++ = '\0';
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
      if (!strcmp(part, numbers[i].name)) *numbers[i].number = strtoul(value, NULL, 0);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
      if (!strcmp(part, texts[i].name)) parse_text(value, texts[i].text);
  }
}

/* Whether it is the rule's turn; counts the call. */
static int is_due(const struct rule *rule) {
  word seen = 0;
  pthread_mutex_lock(&lock);
  for (int i = 0; i < MAX_RULES; i++)
    if (counters[i].id == rule->id || counters[i].id == 0) {
      counters[i].id = rule->id;
      seen = counters[i].matches++;
      break;
    }
  pthread_mutex_unlock(&lock);
  return seen >= rule->skip && seen - rule->skip < rule->times;
}

static void say(int descriptor, const struct text *text) {
  if (text->given && write(descriptor, text->bytes, (size_t)text->length) < 0) return;
}

static void write_log(const char *name, word detail) {
  const char *path = getenv("PKCS11_SHIM_LOG");
  char line[128];
  int length = snprintf(line, sizeof line, "%ld %s %lu\n", (long)getpid(), name, detail);
  int file = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
  if (file < 0) return;
  if (write(file, line, (size_t)length) < 0) { /* a log that cannot be written is seen to be empty */ }
  close(file);
}

/* What applies to this call: one rule made of all that are due, later ones on top. */
static struct rule rules_for(const char *name, word slot, word detail) {
  const char *path = getenv("PKCS11_SHIM_RULES");
  FILE *file = path ? fopen(path, "re") : NULL;
  struct rule sum, rule;
  char line[4 * MAX_TEXT + 512], nothing[1] = "";
  size_t length = strlen(name);
  parse(nothing, &sum);
  while (file && fgets(line, sizeof line, file)) {
    if (strncmp(line, name, length) || (line[length] != ' ' && line[length] != '\n')) continue;
    parse(line + length, &rule);
    if ((rule.slot != ANY && rule.slot != slot) || (rule.only != ANY && rule.only != detail) || !is_due(&rule)) continue;
    say(1, &rule.out);
    say(2, &rule.err);
    sum.hang |= rule.hang;
    sum.crash |= rule.crash;
    sum.after |= rule.after;
    sum.sleep += rule.sleep;
    sum.set |= rule.set;
    sum.clear |= rule.clear;
    if (rule.result != ANY) sum.result = rule.result;
    if (rule.min_pin != ANY) sum.min_pin = rule.min_pin;
    if (rule.max_pin != ANY) sum.max_pin = rule.max_pin;
    if (rule.hide != ANY) sum.hide = rule.hide;
    if (rule.add != ANY) sum.add = rule.add;
    if (rule.label.given) sum.label = rule.label;
    if (rule.serial.given) sum.serial = rule.serial;
    if (rule.pad_pin.given) sum.pad_pin = rule.pad_pin;
  }
  if (file) fclose(file);
  return sum;
}

static word slot_of(word session) {
  word slot = ANY;
  pthread_mutex_lock(&lock);
  for (int i = 0; i < MAX_SESSIONS; i++)
    if (sessions[i].used && sessions[i].handle == session) slot = sessions[i].slot;
  pthread_mutex_unlock(&lock);
  return slot;
}

static void remember(word session, word slot) {
  pthread_mutex_lock(&lock);
  for (int i = 0; i < MAX_SESSIONS; i++)
    if (!sessions[i].used || sessions[i].handle == session) {
      sessions[i].used = 1;
      sessions[i].handle = session;
      sessions[i].slot = slot;
      break;
    }
  pthread_mutex_unlock(&lock);
}

static void forget(word session) {
  pthread_mutex_lock(&lock);
  for (int i = 0; i < MAX_SESSIONS; i++)
    if (sessions[i].used && sessions[i].handle == session) sessions[i].used = 0;
  pthread_mutex_unlock(&lock);
}

static void fill(unsigned char *field, size_t size, const struct text *text) {
  if (!text->given) return;
  memset(field, ' ', size);
  memcpy(field, text->bytes, (size_t)text->length < size ? (size_t)text->length : size);
}

static void change_token_info(struct token_info *info, const struct rule *rule) {
  fill(info->label, sizeof info->label, &rule->label);
  fill(info->serial, sizeof info->serial, &rule->serial);
  info->flags = (info->flags | rule->set) & ~rule->clear;
  if (rule->min_pin != ANY) info->min_pin = rule->min_pin;
  if (rule->max_pin != ANY) info->max_pin = rule->max_pin;
}

static void change_slot_info(struct slot_info *info, const struct rule *rule) {
  fill(info->description, sizeof info->description, &rule->label);
  info->flags = (info->flags | rule->set) & ~rule->clear;
}

/* C_GetMechanismList with one mechanism less or more, in the standard's two calls: the length, then the list. */
static word list_mechanisms(word slot, word *list, word *count, const struct rule *rule) {
  word all[MAX_MECHANISMS + 1], given = MAX_MECHANISMS, kept = 0;
  word result = real->call[C_GetMechanismList](slot, (word)all, (word)&given, 0, 0);
  if (result != CKR_OK) return result;
  for (word i = 0; i < given; i++)
    if (all[i] != rule->hide) all[kept++] = all[i];
  if (rule->add != ANY) all[kept++] = rule->add;
  if (list && *count < kept) result = CKR_BUFFER_TOO_SMALL;
  if (list && result == CKR_OK) memcpy(list, all, kept * sizeof *all);
  *count = kept;
  return result;
}

static word call(int which, word a, word b, word c, word d, word e, const struct rule *rule) {
  if (which == C_GetMechanismList && b != ANY && (rule->hide != ANY || rule->add != ANY))
    return list_mechanisms(a, (word *)b, (word *)c, rule);
  int by_pad = which == C_Login && !c && rule->pad_pin.given;
  word result = by_pad ? real->call[C_Login](a, b, (word)rule->pad_pin.bytes, (word)rule->pad_pin.length, 0)
                       : real->call[which](a, b, c, d, e);
  if (which == C_CloseSession) forget(a);
  if (result != CKR_OK) return result;
  if (which == C_OpenSession) remember(*(word *)e, a);
  if (which == C_GetTokenInfo) change_token_info((struct token_info *)b, rule);
  if (which == C_GetSlotInfo) change_slot_info((struct slot_info *)b, rule);
  if (which == C_GetInfo) fill(((struct info *)a)->description, sizeof ((struct info *)a)->description, &rule->label);
  return result;
}

static word detail_of(int which, word b, word c, word d) {
  if (which == C_Login) return b;
  if (which == C_SignInit && b) return ((struct mechanism *)b)->type;
  if (which == C_GetAttributeValue && c && d) return ((struct attribute *)c)->type;
  return which == C_Sign && d;
}

static word pass(const char *name, int which, int has_session, word a, word b, word c, word d, word e) {
  int has_slot = which == C_GetSlotInfo || which == C_GetTokenInfo || which == C_GetMechanismList || which == C_OpenSession;
  word slot = has_slot ? a : has_session ? slot_of(a) : ANY, detail = detail_of(which, b, c, d);
  write_log(name, detail);
  if (which == C_Login && !c) write_log("C_Login(NULL)", detail);
  struct rule rule = rules_for(name, slot, detail);
  if (rule.sleep) {
    struct timespec pause = {(time_t)(rule.sleep / 1000), (long)(rule.sleep % 1000) * 1000000};
    nanosleep(&pause, NULL);
  }
  while (rule.hang) sleep(3600);
  if (rule.crash) abort();
  if (rule.result != ANY && !rule.after) return rule.result;
  word result = call(which, a, b, c, d, e, &rule);
  return rule.result != ANY ? rule.result : result;
}

#define WRAPPER(name, has_session) \
  static word shim_##name(word a, word b, word c, word d, word e) { return pass(#name, name, has_session, a, b, c, d, e); }
#define EACH_FUNCTION(X) \
  X(C_Initialize, 0) X(C_Finalize, 0) X(C_GetInfo, 0) X(C_GetSlotList, 0) X(C_GetSlotInfo, 0) X(C_GetTokenInfo, 0) \
  X(C_GetMechanismList, 0) X(C_OpenSession, 0) X(C_CloseSession, 1) X(C_Login, 1) X(C_Logout, 1) \
  X(C_GetAttributeValue, 1) X(C_FindObjectsInit, 1) X(C_FindObjects, 1) X(C_FindObjectsFinal, 1) X(C_SignInit, 1) \
  X(C_Sign, 1) X(C_CreateObject, 1) X(C_DestroyObject, 1)
EACH_FUNCTION(WRAPPER)

/* It has three arguments more than any other that matters here. */
static word shim_C_GenerateKeyPair(word a, word b, word c, word d, word e, word f, word g, word h) {
  typedef word (*of_eight)(word, word, word, word, word, word, word, word);
  word detail = b ? ((struct mechanism *)b)->type : 0;
  write_log("C_GenerateKeyPair", detail);
  struct rule rule = rules_for("C_GenerateKeyPair", slot_of(a), detail);
  while (rule.hang) sleep(3600);
  if (rule.result != ANY && !rule.after) return rule.result;
  word result = ((of_eight)(any_function)real->call[C_GenerateKeyPair])(a, b, c, d, e, f, g, h);
  return rule.result != ANY ? rule.result : result;
}

static void wrap(void) {
#define PUT(name, has_session) wrapped.call[name] = shim_##name;
  EACH_FUNCTION(PUT)
  wrapped.call[C_GenerateKeyPair] = (function)(any_function)shim_C_GenerateKeyPair;
}
