/*
 * A PKCS#11 module that has ML-DSA keys (PKCS#11 v3.2), over one that has none.
 *
 * Sessions, logins, labels and what is said of a key's origin are the other module's. A key pair of it counts as an
 * ML-DSA pair where PKCS11_MLDSA_KEYS has files named after its CKA_ID in hexadecimal. A program signs; it takes the
 * message on its standard input and writes the signature.
 *
 * Environment:
 *   PKCS11_MLDSA_MODULE  the module that does the rest
 *   PKCS11_MLDSA_KEYS    a directory: ID.public (the public key's bytes), ID.seed (for the program)
 *   PKCS11_MLDSA_PYTHON  the program's interpreter
 *   PKCS11_MLDSA_SIGN    the program; its arguments are 44, 65 or 87 and the seed's file
 *
 * Strict where a client could be careless: C_SignInit takes no parameter, and who asks for CKA_VALUE of a private key
 * (it is the key itself) is ended with abort().
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MODULE "PKCS11_MLDSA_MODULE"
#include "wrapped_module.h"

enum { MAX_PENDING = 64, MAX_MECHANISMS = 1024, MAX_PUBLIC = 2592, MAX_PATH = 4096 };
enum { C_GetMechanismList = 7, C_GetAttributeValue = 24, C_SignInit = 42, C_Sign = 43 };
#define CKR_ATTRIBUTE_TYPE_INVALID 0x12ul
#define CKR_KEY_TYPE_INCONSISTENT 0x63ul
#define CKR_MECHANISM_PARAM_INVALID 0x71ul
#define CKO_PUBLIC_KEY 2ul
#define CKO_PRIVATE_KEY 3ul
#define CKA_CLASS 0x0ul
#define CKA_VALUE 0x11ul
#define CKA_KEY_TYPE 0x100ul
#define CKA_ID 0x102ul
#define CKA_PUBLIC_KEY_INFO 0x129ul
#define CKA_EC_PARAMS 0x180ul
#define CKA_EC_POINT 0x181ul
#define CKA_PARAMETER_SET 0x61dul
#define CKK_ML_DSA 0x4aul
#define CKM_ML_DSA 0x1dul

static const struct { word set, public_size, signature_size; const char *name; } sets[] = {
  {1, 1312, 2420, "44"}, {2, 1952, 3309, "65"}, {3, 2592, 4627, "87"},
};

struct key { word class; int set; char id[65]; unsigned char public[MAX_PUBLIC + 1]; };
struct pending { word session; int used, set; char seed[MAX_PATH]; };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct pending pending[MAX_PENDING];

/* Whether an object is an ML-DSA key. */
static int find_key(word session, word object, struct key *key) {
  unsigned char id[32];
  const char *directory = getenv("PKCS11_MLDSA_KEYS");
  struct attribute wanted[] = {{CKA_CLASS, &key->class, sizeof key->class}, {CKA_ID, id, sizeof id}};
  char path[MAX_PATH];
  if (real->call[C_GetAttributeValue](session, object, (word)wanted, 2, 0) != CKR_OK) return 0;
  if (key->class != CKO_PUBLIC_KEY && key->class != CKO_PRIVATE_KEY) return 0;
  for (word i = 0; i < wanted[1].length; i++) snprintf(key->id + 2 * i, 3, "%02x", id[i]);
  if (!wanted[1].length) return 0;
  snprintf(path, sizeof path, "%s/%s.public", directory ? directory : "", key->id);
  FILE *file = fopen(path, "rbe");
  size_t size = file ? fread(key->public, 1, sizeof key->public, file) : 0;
  if (file) fclose(file);
  for (key->set = 0; key->set < 3; key->set++)
    if (sets[key->set].public_size == size) return 1;
  return 0;
}

static word put(struct attribute *attribute, const void *value, word size) {
  if (attribute->value && attribute->length < size) {
    attribute->length = ~0ul;
    return CKR_BUFFER_TOO_SMALL;
  }
  if (attribute->value) memcpy(attribute->value, value, size);
  attribute->length = size;
  return CKR_OK;
}

static word one_attribute(word session, word object, struct attribute *attribute, const struct key *key) {
  word type = CKK_ML_DSA;
  switch (attribute->type) {
    case CKA_KEY_TYPE: return put(attribute, &type, sizeof type);
    case CKA_PARAMETER_SET: return put(attribute, &sets[key->set].set, sizeof(word));
    case CKA_VALUE:
      if (key->class == CKO_PRIVATE_KEY) abort();
      return put(attribute, key->public, sets[key->set].public_size);
    case CKA_EC_PARAMS: case CKA_EC_POINT: case CKA_PUBLIC_KEY_INFO:
      attribute->length = ~0ul;
      return CKR_ATTRIBUTE_TYPE_INVALID;
    default: return real->call[C_GetAttributeValue](session, object, (word)attribute, 1, 0);
  }
}

static word get_attributes(word session, word object, word template, word count, word e) {
  struct attribute *attributes = (struct attribute *)template;
  struct key key;
  word result = CKR_OK;
  if (!find_key(session, object, &key)) return real->call[C_GetAttributeValue](session, object, template, count, e);
  for (word i = 0; i < count; i++) {
    word one = one_attribute(session, object, &attributes[i], &key);
    if (one != CKR_OK) result = one;
  }
  return result;
}

static word list_mechanisms(word slot, word list, word count, word d, word e) {
  word all[MAX_MECHANISMS + 1], given = MAX_MECHANISMS, room = *(word *)count;
  word result = real->call[C_GetMechanismList](slot, (word)all, (word)&given, d, e);
  if (result != CKR_OK) return result;
  all[given++] = CKM_ML_DSA;
  *(word *)count = given;
  if (!list) return CKR_OK;
  if (room < given) return CKR_BUFFER_TOO_SMALL;
  memcpy((void *)list, all, given * sizeof *all);
  return CKR_OK;
}

static word sign_init(word session, word mechanism, word object, word d, word e) {
  struct mechanism *asked = (struct mechanism *)mechanism;
  const char *directory = getenv("PKCS11_MLDSA_KEYS");
  struct key key;
  int is_key = find_key(session, object, &key) && key.class == CKO_PRIVATE_KEY;
  if (!is_key && asked->type != CKM_ML_DSA) return real->call[C_SignInit](session, mechanism, object, d, e);
  if (!is_key || asked->type != CKM_ML_DSA) return CKR_KEY_TYPE_INCONSISTENT;
  if (asked->parameter || asked->length) return CKR_MECHANISM_PARAM_INVALID;
  pthread_mutex_lock(&lock);
  for (int i = 0; i < MAX_PENDING; i++)
    if (!pending[i].used || pending[i].session == session) {
      pending[i] = (struct pending){.session = session, .used = 1, .set = key.set};
      snprintf(pending[i].seed, MAX_PATH, "%s/%s.seed", directory, key.id);
      break;
    }
  pthread_mutex_unlock(&lock);
  return CKR_OK;
}

/* Runs the program; whether it wrote exactly so many bytes and ended well. */
static int run(const struct pending *one, const void *data, word size, unsigned char *signature, word wanted) {
  int to[2], from[2], status = -1;
  word got = 0;
  ssize_t read_now;
  if (pipe2(to, 0x80000) || pipe2(from, 0x80000)) return 0; /* O_CLOEXEC */
  pid_t child = fork();
  if (child == 0) {
    dup2(to[0], 0);
    dup2(from[1], 1);
    const char *python = getenv("PKCS11_MLDSA_PYTHON"); /* as argv[0], too: Python finds its environment by that */
    execl(python, python, "-I", getenv("PKCS11_MLDSA_SIGN"), sets[one->set].name, one->seed, (char *)NULL);
    _exit(127);
  }
  close(to[0]);
  close(from[1]);
  for (word sent = 0; child > 0 && sent < size;) {
    ssize_t now = write(to[1], (const char *)data + sent, size - sent);
    if (now <= 0) break;
    sent += (word)now;
  }
  close(to[1]);
  while (got < wanted && (read_now = read(from[0], signature + got, wanted - got)) > 0) got += (word)read_now;
  close(from[0]);
  if (child > 0) waitpid(child, &status, 0);
  return got == wanted && status == 0;
}

static word sign(word session, word data, word size, word signature, word length) {
  struct pending found = {0};
  pthread_mutex_lock(&lock);
  for (int i = 0; i < MAX_PENDING; i++)
    if (pending[i].used && pending[i].session == session) {
      found = pending[i];
      /* A question after the length does not end the operation, nor does a buffer that is too small. */
      if (signature && *(word *)length >= sets[found.set].signature_size) pending[i].used = 0;
    }
  pthread_mutex_unlock(&lock);
  if (!found.used) return real->call[C_Sign](session, data, size, signature, length);
  word room = *(word *)length, wanted = sets[found.set].signature_size;
  *(word *)length = wanted;
  if (!signature) return CKR_OK;
  if (room < wanted) return CKR_BUFFER_TOO_SMALL;
  return run(&found, (void *)data, size, (unsigned char *)signature, wanted) ? CKR_OK : CKR_GENERAL_ERROR;
}

static void wrap(void) {
  wrapped.call[C_GetMechanismList] = list_mechanisms;
  wrapped.call[C_GetAttributeValue] = get_attributes;
  wrapped.call[C_SignInit] = sign_init;
  wrapped.call[C_Sign] = sign;
}
