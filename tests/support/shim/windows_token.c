/*
 * A PKCS#11 token for Windows that signs. Its keys, certificates and PIN stand in a text file, and the calls that a test
 * counts are written down. Built with MinGW and libgcrypt (windows_token.py); written from the OASIS standard v2.40.
 *
 *   TOKEN_FILE  one thing a line:
 *                 label TEXT | serial TEXT | pin TEXT
 *                 key ID LABEL once|always S-EXPRESSION    ID in hex; libgcrypt's form of an RSA or P-256 private key;
 *                                                          "always": CKA_ALWAYS_AUTHENTICATE
 *                 certificate ID LABEL DER                 both in hex
 *   TOKEN_LOG   gets a line for each C_Initialize, C_Login and C_Sign
 *   TOKEN_OUT   while this file is there, the token is not in its slot
 *   TOKEN_STUCK while this file is there, C_Sign does not return
 *   TOKEN_BAD   while this file is there, another slot is, of which nothing can be asked
 *
 * Three wrong PINs since the last right one, of all processes that share the log, lock the PIN.
 */
#include <gcrypt.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <windows.h>

typedef uint32_t word; /* CK_ULONG: the compiler's unsigned long */
/* Every function is called as if it had five parameters; what is above a CK_ULONG in one is undefined. */
typedef uintptr_t argument;
typedef word (*function)(argument, argument, argument, argument, argument);
#define ANY __attribute__((unused))
#define ARGUMENTS argument a ANY, argument b ANY, argument c ANY, argument d ANY, argument e ANY

enum { FUNCTIONS = 68, SESSIONS = 16, OBJECTS = 32, TRIES = 3, BUFFER = 4096, SLOT = 7, BAD_SLOT = 3 };
enum { CKO_CERTIFICATE = 1, CKO_PUBLIC_KEY = 2, CKO_PRIVATE_KEY = 3 };
enum { CKK_RSA = 0, CKK_EC = 3, CKM_RSA_PKCS = 1, CKM_ECDSA = 0x1041 };
enum { CKU_USER = 1, CKU_CONTEXT_SPECIFIC = 2 };
#define UNAVAILABLE ((word)-1)

enum {
  CKR_OK = 0, CKR_SLOT_ID_INVALID = 3, CKR_GENERAL_ERROR = 5, CKR_ARGUMENTS_BAD = 7, CKR_ATTRIBUTE_SENSITIVE = 0x11,
  CKR_ATTRIBUTE_TYPE_INVALID = 0x12, CKR_DATA_LEN_RANGE = 0x21, CKR_DEVICE_ERROR = 0x30, CKR_DEVICE_REMOVED = 0x32, CKR_FUNCTION_NOT_SUPPORTED = 0x54,
  CKR_KEY_HANDLE_INVALID = 0x60, CKR_KEY_TYPE_INCONSISTENT = 0x63, CKR_MECHANISM_INVALID = 0x70,
  CKR_OBJECT_HANDLE_INVALID = 0x82, CKR_OPERATION_NOT_INITIALIZED = 0x91, CKR_PIN_INCORRECT = 0xA0, CKR_PIN_LOCKED = 0xA4,
  CKR_SESSION_COUNT = 0xB1, CKR_SESSION_HANDLE_INVALID = 0xB3, CKR_TOKEN_NOT_PRESENT = 0xE0,
  CKR_USER_ALREADY_LOGGED_IN = 0x100, CKR_USER_NOT_LOGGED_IN = 0x101, CKR_BUFFER_TOO_SMALL = 0x150,
  CKR_ALREADY_INITIALIZED = 0x191
};

#pragma pack(push, 1)
struct function_list { unsigned char version[2]; function call[FUNCTIONS]; };
struct initialize_arguments { void *mutex[4]; word flags; const char *reserved; };
struct info { unsigned char version[2], manufacturer[32]; word flags; unsigned char description[32], library[2]; };
struct slot_info { unsigned char description[64], manufacturer[32]; word flags; unsigned char versions[4]; };
struct token_info {
  unsigned char label[32], manufacturer[32], model[16], serial[16];
  word flags, sessions[4], longest_pin, shortest_pin, memory[4];
  unsigned char versions[4], time[16];
};
struct mechanism { word type; void *parameter; word length; };
struct mechanism_info { word shortest, longest, flags; };
struct attribute { word type; void *value; word length; };
#pragma pack(pop)

struct object {
  word class, key_type;
  unsigned char id[64], value[BUFFER];
  size_t id_length, value_length;
  char label[64];
  unsigned char always;
  gcry_sexp_t key;
};

static struct session {
  int open, signing, wants_pin;
  word key, mechanism;
  word found[OBJECTS];
  size_t count, at;
} sessions[SESSIONS];

static struct object objects[OBJECTS];
static size_t object_count;
static char label[33], serial[17], pin[256];
static int initialized, logged_in;
static CRITICAL_SECTION lock;

/* --- the file, the log, and whether the token is there --- */

static void note(const char *format, ...) {
  const char *path = getenv("TOKEN_LOG");
  FILE *file = path ? fopen(path, "ab") : NULL;
  if (!file) return;
  va_list values;
  va_start(values, format);
  vfprintf(file, format, values);
  va_end(values);
  fputc('\n', file);
  fclose(file);
}

static int wrong_pins(void) {
  const char *path = getenv("TOKEN_LOG");
  FILE *file = path ? fopen(path, "rb") : NULL;
  char line[256];
  int wrong = 0;
  while (file && fgets(line, sizeof line, file)) {
    if (!strncmp(line, "C_Login right", 13)) wrong = 0;
    if (!strncmp(line, "C_Login wrong", 13)) wrong++;
  }
  if (file) fclose(file);
  return wrong;
}

static int is_there(const char *variable) {
  const char *path = getenv(variable);
  return path && GetFileAttributesA(path) != INVALID_FILE_ATTRIBUTES;
}

static int present(void) {
  if (!is_there("TOKEN_OUT")) return 1;
  memset(sessions, 0, sizeof sessions);
  logged_in = 0;
  return 0;
}

static size_t from_hex(const char *text, unsigned char *bytes, size_t room) {
  size_t length = 0;
  unsigned value;
  for (; length < room && sscanf(text, "%2x", &value) == 1; text += 2) bytes[length++] = (unsigned char)value;
  return length;
}

static struct object *add(word class, const char *id, const char *name) {
  if (object_count == OBJECTS) return NULL;
  struct object *object = &objects[object_count++];
  object->class = class;
  object->id_length = from_hex(id, object->id, sizeof object->id);
  snprintf(object->label, sizeof object->label, "%s", name);
  return object;
}

static int add_key(const char *id, const char *name, int always, const char *text) {
  struct object *private = add(CKO_PRIVATE_KEY, id, name), *public = add(CKO_PUBLIC_KEY, id, name);
  gcry_sexp_t key;
  if (!private || !public || gcry_sexp_new(&key, text, 0, 1)) return 0;
  gcry_sexp_t rsa = gcry_sexp_find_token(key, "rsa", 0);
  private->key = public->key = key;
  private->key_type = public->key_type = rsa ? CKK_RSA : CKK_EC;
  private->always = always != 0;
  gcry_sexp_release(rsa);
  return 1;
}

static int read_line(char *line) {
  char id[129], name[64], when[16];
  int at = 0;
  line[strcspn(line, "\r\n")] = 0;
  if (sscanf(line, "key %128s %63s %15s %n", id, name, when, &at) == 3 && at)
    return add_key(id, name, !strcmp(when, "always"), line + at);
  if (sscanf(line, "certificate %128s %63s %n", id, name, &at) == 2 && at) {
    struct object *object = add(CKO_CERTIFICATE, id, name);
    if (object) object->value_length = from_hex(line + at, object->value, sizeof object->value);
    return object != NULL;
  }
  if (!strncmp(line, "label ", 6)) snprintf(label, sizeof label, "%s", line + 6);
  else if (!strncmp(line, "serial ", 7)) snprintf(serial, sizeof serial, "%s", line + 7);
  else if (!strncmp(line, "pin ", 4)) snprintf(pin, sizeof pin, "%s", line + 4);
  else return 0;
  return 1;
}

static void say_nothing(void *context ANY, int level ANY, const char *format ANY, va_list values ANY) {}

static int load(void) {
  static char line[4 * BUFFER];
  const char *path = getenv("TOKEN_FILE");
  FILE *file = path ? fopen(path, "rb") : NULL;
  int good = file && gcry_check_version(NULL);
  gcry_set_log_handler(say_nothing, NULL);
  gcry_control(GCRYCTL_DISABLE_SECMEM, 0);
  gcry_control(GCRYCTL_INITIALIZATION_FINISHED, 0);
  object_count = 0;
  while (good && fgets(line, sizeof line, file)) good = read_line(line);
  if (file) fclose(file);
  return good;
}

static void pad(unsigned char *field, size_t size, const char *text) {
  memset(field, ' ', size);
  memcpy(field, text, strlen(text) < size ? strlen(text) : size);
}

/* --- numbers of a key, as the standard writes them --- */

static size_t number(gcry_sexp_t key, const char *name, unsigned char *out) {
  size_t length = 0;
  gcry_sexp_t token = gcry_sexp_find_token(key, name, 0);
  gcry_mpi_t value = token ? gcry_sexp_nth_mpi(token, 1, GCRYMPI_FMT_USG) : NULL;
  if (value) gcry_mpi_print(GCRYMPI_FMT_USG, out, BUFFER, &length, value);
  gcry_mpi_release(value);
  gcry_sexp_release(token);
  return length;
}

/* CKA_EC_POINT: the point's 65 bytes in an OCTET STRING. */
static size_t point(gcry_sexp_t key, unsigned char *out) {
  out[0] = 4, out[1] = (unsigned char)number(key, "q", out + 2);
  return 2u + out[1];
}

static const unsigned char P256[] = {6, 8, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 3, 1, 7};

/* What sign() gives: the modulus' length, or two numbers of the curve's. */
static size_t signature_length(const struct object *key) {
  unsigned char modulus[BUFFER];
  return key->key_type == CKK_RSA ? number(key->key, "n", modulus) : 64;
}

static int put(gcry_sexp_t signature, const char *name, unsigned char *out, size_t length) {
  unsigned char value[BUFFER];
  size_t have = number(signature, name, value);
  if (!have || have > length) return 0;
  memset(out, 0, length - have);
  memcpy(out + length - have, value, have);
  return 1;
}

static word sign(const struct object *key, const unsigned char *data, size_t length, unsigned char *out) {
  unsigned char block[BUFFER];
  size_t size = signature_length(key);
  gcry_sexp_t hash = NULL, signature = NULL;
  if (key->key_type == CKK_RSA) { /* 00 01 FF.. 00 DATA (RFC 8017, 9.2) */
    if (length > size - 11) return CKR_DATA_LEN_RANGE;
    memset(block, 0xFF, size);
    block[0] = 0, block[1] = 1, block[size - length - 1] = 0;
    memcpy(block + size - length, data, length);
    length = size;
  } else { /* the leftmost bits */
    if (length > 32) length = 32;
    memcpy(block, data, length);
  }
  int bad = gcry_sexp_build(&hash, NULL, "(data (flags raw) (value %b))", (int)length, block) ||
            gcry_pk_sign(&signature, hash, key->key);
  bad = bad || !(key->key_type == CKK_RSA ? put(signature, "s", out, size)
                                          : put(signature, "r", out, 32) && put(signature, "s", out + 32, 32));
  gcry_sexp_release(hash);
  gcry_sexp_release(signature);
  return bad ? CKR_GENERAL_ERROR : CKR_OK;
}

/* --- attributes --- */

static size_t bytes(unsigned char *out, const void *value, size_t length) {
  memcpy(out, value, length);
  return length;
}

static size_t of_word(unsigned char *out, word value) { return bytes(out, &value, sizeof value); }

/* The value's length; UNAVAILABLE where there is no such attribute. */
static size_t attribute(const struct object *o, word type, unsigned char *out) {
  int private = o->class == CKO_PRIVATE_KEY, key = o->class != CKO_CERTIFICATE;
  out[0] = 0;
  switch (type) {
    case 0x0: return of_word(out, o->class);
    case 0x1: out[0] = 1; return 1;                                               /* CKA_TOKEN */
    case 0x2: out[0] = (unsigned char)private; return 1;                          /* CKA_PRIVATE */
    case 0x3: return bytes(out, o->label, strlen(o->label));
    case 0x102: return bytes(out, o->id, o->id_length);
    case 0x11: return key ? UNAVAILABLE : bytes(out, o->value, o->value_length);  /* CKA_VALUE */
    case 0x80: return key ? UNAVAILABLE : of_word(out, 0);                        /* CKA_CERTIFICATE_TYPE: X.509 */
    case 0x100: return key ? of_word(out, o->key_type) : UNAVAILABLE;
    case 0x103: case 0x163: case 0x164: case 0x165: case 0x108:                   /* sensitive ever since; CKA_SIGN */
      out[0] = (unsigned char)private;
      return key ? 1 : UNAVAILABLE;
    case 0x162: case 0x104: case 0x105: case 0x106: case 0x107: case 0x10C:       /* extractable, and what it cannot do */
      return key ? 1 : UNAVAILABLE;
    case 0x10A: out[0] = !private; return key ? 1 : UNAVAILABLE;                  /* CKA_VERIFY */
    case 0x202: out[0] = o->always; return private ? 1 : UNAVAILABLE;
  }
  if (!key) return UNAVAILABLE;
  if (o->key_type == CKK_EC)
    return type == 0x180 ? bytes(out, P256, sizeof P256) : type == 0x181 && !private ? point(o->key, out) : UNAVAILABLE;
  return type == 0x120   ? number(o->key, "n", out)
         : type == 0x121 ? of_word(out, 8u * (word)signature_length(o))
         : type == 0x122 ? number(o->key, "e", out)
                         : UNAVAILABLE;
}

static int visible(const struct object *o) { return o->class != CKO_PRIVATE_KEY || logged_in; }

static struct object *object_of(word handle) {
  return handle && handle <= object_count && visible(&objects[handle - 1]) ? &objects[handle - 1] : NULL;
}

static word session_of(argument handle, struct session **session) {
  if (!present()) return CKR_DEVICE_REMOVED;
  word place = (word)handle - 1;
  if (place >= SESSIONS || !sessions[place].open) return CKR_SESSION_HANDLE_INVALID;
  *session = &sessions[place];
  return CKR_OK;
}

/* --- the functions --- */

static word initialize(ARGUMENTS) {
  const struct initialize_arguments *given = (void *)a;
  if (initialized) return CKR_ALREADY_INITIALIZED;
  note("C_Initialize flags=%u reserved=%s", given ? given->flags : 0u, given && given->reserved ? given->reserved : "-");
  if (!load()) return CKR_GENERAL_ERROR;
  initialized = 1;
  return CKR_OK;
}

static word finalize(ARGUMENTS) {
  memset(sessions, 0, sizeof sessions);
  initialized = logged_in = 0;
  return CKR_OK;
}

static word get_info(ARGUMENTS) {
  struct info *info = (void *)a;
  memset(info, 0, sizeof *info);
  info->version[0] = 2, info->version[1] = 40, info->library[0] = 1;
  pad(info->manufacturer, sizeof info->manufacturer, "tests");
  pad(info->description, sizeof info->description, "a token for Windows");
  return CKR_OK;
}

static word get_slot_list(ARGUMENTS) {
  word *slots = (void *)b, *count = (void *)c;
  word have[2], number = 0;
  if (is_there("TOKEN_BAD")) have[number++] = BAD_SLOT;
  if (!(a & 0xFF) || present()) have[number++] = SLOT;
  int fits = !slots || *count >= number;
  if (slots && fits) memcpy(slots, have, number * sizeof *slots);
  *count = number;
  return fits ? CKR_OK : CKR_BUFFER_TOO_SMALL;
}

static word get_slot_info(ARGUMENTS) {
  struct slot_info *info = (void *)b;
  if ((word)a != SLOT) return CKR_DEVICE_ERROR;
  memset(info, 0, sizeof *info);
  info->flags = 0x6u | (present() ? 1u : 0u); /* removable, hardware */
  pad(info->description, sizeof info->description, "a slot for tests");
  pad(info->manufacturer, sizeof info->manufacturer, "tests");
  return CKR_OK;
}

static word get_token_info(ARGUMENTS) {
  struct token_info *info = (void *)b;
  if ((word)a != SLOT) return CKR_SLOT_ID_INVALID;
  if (!present()) return CKR_TOKEN_NOT_PRESENT;
  int wrong = wrong_pins();
  memset(info, 0, sizeof *info);
  info->flags = 0x40Cu; /* login required, PIN set, token initialised */
  if (wrong) info->flags |= wrong >= TRIES ? 0x40000u : wrong == TRIES - 1 ? 0x30000u : 0x10000u;
  info->shortest_pin = 4, info->longest_pin = 16;
  pad(info->label, sizeof info->label, label);
  pad(info->serial, sizeof info->serial, serial);
  pad(info->manufacturer, sizeof info->manufacturer, "tests");
  pad(info->model, sizeof info->model, "v1");
  return CKR_OK;
}

static word get_mechanism_list(ARGUMENTS) {
  word *list = (void *)b, *count = (void *)c;
  int fits = !list || *count >= 2;
  if (list && fits) list[0] = CKM_RSA_PKCS, list[1] = CKM_ECDSA;
  *count = 2;
  return fits ? CKR_OK : CKR_BUFFER_TOO_SMALL;
}

static word get_mechanism_info(ARGUMENTS) {
  struct mechanism_info *info = (void *)c;
  if ((word)b != CKM_RSA_PKCS && (word)b != CKM_ECDSA) return CKR_MECHANISM_INVALID;
  info->shortest = (word)b == CKM_ECDSA ? 256 : 2048, info->longest = info->shortest, info->flags = 0x801;
  return CKR_OK;
}

static word open_session(ARGUMENTS) {
  if ((word)a != SLOT) return CKR_SLOT_ID_INVALID;
  if (!present()) return CKR_TOKEN_NOT_PRESENT;
  for (word place = 0; place < SESSIONS; place++)
    if (!sessions[place].open) {
      memset(&sessions[place], 0, sizeof sessions[place]);
      sessions[place].open = 1;
      *(word *)e = place + 1;
      return CKR_OK;
    }
  return CKR_SESSION_COUNT;
}

static word close_session(ARGUMENTS) {
  struct session *session;
  word result = session_of(a, &session);
  if (result) return result;
  session->open = 0;
  for (word place = 0; place < SESSIONS; place++)
    if (sessions[place].open) return CKR_OK;
  logged_in = 0; /* the standard: with the last session the login ends */
  return CKR_OK;
}

static word login(ARGUMENTS) {
  struct session *session;
  word result = session_of(a, &session), user = (word)b;
  if (result) return result;
  if (user == CKU_USER && logged_in) return CKR_USER_ALREADY_LOGGED_IN;
  if (user == CKU_CONTEXT_SPECIFIC && !session->signing) return CKR_OPERATION_NOT_INITIALIZED;
  if (wrong_pins() >= TRIES) return note("C_Login locked"), CKR_PIN_LOCKED;
  if ((word)d != strlen(pin) || memcmp((void *)c, pin, strlen(pin))) return note("C_Login wrong"), CKR_PIN_INCORRECT;
  note("C_Login right user=%u", user);
  if (user == CKU_USER) logged_in = 1;
  session->wants_pin = 0;
  return CKR_OK;
}

static word logout(ARGUMENTS) {
  struct session *session;
  word result = session_of(a, &session);
  if (!result) logged_in = 0;
  return result;
}

static word get_attribute_value(ARGUMENTS) {
  struct session *session;
  struct attribute *list = (void *)c;
  unsigned char value[BUFFER];
  word result = session_of(a, &session);
  const struct object *object = object_of((word)b);
  if (result || !object) return result ? result : CKR_OBJECT_HANDLE_INVALID;
  for (word at = 0; at < (word)d; at++) {
    size_t length = attribute(object, list[at].type, value);
    int secret = object->class == CKO_PRIVATE_KEY && (list[at].type == 0x11 || list[at].type == 0x123);
    if (length == UNAVAILABLE) result = secret ? CKR_ATTRIBUTE_SENSITIVE : CKR_ATTRIBUTE_TYPE_INVALID;
    else if (list[at].value && list[at].length < length) result = CKR_BUFFER_TOO_SMALL, length = UNAVAILABLE;
    else if (list[at].value) memcpy(list[at].value, value, length);
    list[at].length = (word)length;
  }
  return result;
}

static int fits(const struct object *object, const struct attribute *template, word count) {
  unsigned char value[BUFFER];
  for (word at = 0; at < count; at++) {
    size_t length = attribute(object, template[at].type, value);
    if (length != template[at].length || memcmp(value, template[at].value, length)) return 0;
  }
  return visible(object);
}

static word find_objects_init(ARGUMENTS) {
  struct session *session;
  word result = session_of(a, &session);
  if (result) return result;
  session->count = session->at = 0;
  for (size_t at = 0; at < object_count; at++)
    if (fits(&objects[at], (void *)b, (word)c)) session->found[session->count++] = (word)at + 1;
  return CKR_OK;
}

static word find_objects(ARGUMENTS) {
  struct session *session;
  word *handles = (void *)b, *count = (void *)d;
  word result = session_of(a, &session);
  if (result) return result;
  for (*count = 0; *count < (word)c && session->at < session->count; ++*count)
    handles[*count] = session->found[session->at++];
  return CKR_OK;
}

static word find_objects_final(ARGUMENTS) {
  struct session *session;
  return session_of(a, &session);
}

static word sign_init(ARGUMENTS) {
  struct session *session;
  const struct mechanism *mechanism = (void *)b;
  word result = session_of(a, &session);
  const struct object *key = object_of((word)c);
  if (result) return result;
  if (!key || key->class != CKO_PRIVATE_KEY) return CKR_KEY_HANDLE_INVALID;
  if (mechanism->type != CKM_RSA_PKCS && mechanism->type != CKM_ECDSA) return CKR_MECHANISM_INVALID;
  if ((mechanism->type == CKM_RSA_PKCS) != (key->key_type == CKK_RSA)) return CKR_KEY_TYPE_INCONSISTENT;
  session->signing = 1, session->key = (word)c, session->wants_pin = key->always;
  return CKR_OK;
}

static word sign_data(ARGUMENTS) {
  struct session *session;
  word *length = (void *)e;
  word result = session_of(a, &session);
  if (result) return result;
  if (!session->signing) return CKR_OPERATION_NOT_INITIALIZED;
  const struct object *key = object_of(session->key);
  if (!key || session->wants_pin) return session->signing = 0, CKR_USER_NOT_LOGGED_IN;
  word size = (word)signature_length(key);
  if (!d || *length < size) return *length = size, d ? CKR_BUFFER_TOO_SMALL : CKR_OK;
  session->signing = 0;
  note("C_Sign %s %u bytes", key->label, (word)c);
  while (is_there("TOKEN_STUCK")) Sleep(100);
  result = sign(key, (void *)b, (word)c, (void *)d);
  *length = size;
  return result;
}

static word not_supported(ARGUMENTS) {
  return CKR_FUNCTION_NOT_SUPPORTED;
}

/* --- the list: each function, one call at a time --- */

#define TABLE(DO) \
  DO(0, initialize) DO(1, finalize) DO(2, get_info) DO(4, get_slot_list) DO(5, get_slot_info) DO(6, get_token_info) \
  DO(7, get_mechanism_list) DO(8, get_mechanism_info) DO(12, open_session) DO(13, close_session) DO(18, login) \
  DO(19, logout) DO(24, get_attribute_value) DO(26, find_objects_init) DO(27, find_objects) \
  DO(28, find_objects_final) DO(42, sign_init) DO(43, sign_data)

#define LOCKED(place, name) \
  static word locked_##name(ARGUMENTS) { \
    EnterCriticalSection(&lock); \
    word result = name(a, b, c, d, e); \
    LeaveCriticalSection(&lock); \
    return result; \
  }
#define LISTED(place, name) list.call[place] = locked_##name;
TABLE(LOCKED)

static struct function_list list = {.version = {2, 40}};

static word function_list(ARGUMENTS) {
  *(struct function_list **)a = &list;
  return CKR_OK;
}

__declspec(dllexport) word C_GetFunctionList(struct function_list **functions) {
  return function_list((argument)functions, 0, 0, 0, 0);
}

BOOL WINAPI DllMain(HINSTANCE module ANY, DWORD reason, LPVOID reserved ANY) {
  if (reason != DLL_PROCESS_ATTACH) return TRUE;
  InitializeCriticalSection(&lock);
  for (int place = 0; place < FUNCTIONS; place++) list.call[place] = not_supported;
  list.call[3] = function_list;
  TABLE(LISTED)
  return TRUE;
}
