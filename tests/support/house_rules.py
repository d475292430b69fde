"""The rules of the house that a linter does not know, as functions from one file's source to what breaks them.

Every checker takes a `Source` and returns one line for each breach. tests/unit/test_house_rules.py runs them over the
tree and proves each on a small bad example.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

# Who may import whom, from top to bottom: a module may import what stands on a line below its own, and its own package.
# A new module needs its place here.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("__main__",),
    ("cli",),
    ("doctor",),
    ("vend", "keys"),
    ("fetcher",),
    ("provider", "worker", "worker_child"),
    ("fetch",),
    ("cache", "create_session"),
    ("sign_string",),
    ("cache_question", "identity", "file_identity", "token_identity", "tpm_identity", "certstore", "transport"),
    ("token_login", "tpm_login", "passphrases"),
    ("tpm_passwords",),
    ("sigv4_x509",),
    ("signers",),
    ("tokens",),
    ("pin_guard",),
    ("config", "pins", "pin_record"),
    ("key_settings",),
    ("tpm_settings", "store_reference"),
    ("configured_options",),
    ("configuration_file",),
    ("options", "cert_selector"),
    (
        "certificates",
        "arn",
        "credentials",
        "pkcs11_uri",
        "endpoints",
        "http_server",
        "http_protocol",
        "tss2_key",
        "go_name",
    ),
    ("tpm_handle", "pkcs12_file"),
    ("pin_files", "pin_source", "private_files", "null_parameters", "worker_pipe"),
    ("der",),
    ("pkcs11_uri_syntax",),
    ("interaction", "schedule"),
    ("secret", "deadline", "exportability"),
    ("base",),
    ("errors", "_version", "cached_answer", "forks", "lazily", "value"),
    ("access_list",),
)
# Two files that are one thing.
PEERS = (
    {"identity", "file_identity"},
    {"identity", "token_identity"},
    {"identity", "tpm_identity"},
    {"identity", "certstore"},
    {"http_server", "http_protocol"},
)
# Narrower than their place: what a server runs on knows nothing of the client, and the emulator shares no code with it.
ONLY = {
    "http_server": {"errors", "http_protocol"},
    "http_protocol": {"errors", "http_server"},
    "emulator": set[str](),
}
EMULATOR_USER = "cli/emulator.py"

# A dependency and the only places that may import it.
DEPENDENCIES = {
    "click": ("cli/*",),
    "pkcs11": ("tokens/*",),
    "tpm2_pytss": ("signers/tpm*", "keys/*"),
    "boto3": ("vend/boto3.py",),
    "botocore": ("vend/boto3.py", "vend/botocore.py", "vend/aiobotocore.py"),
    "aiobotocore": ("vend/aiobotocore.py",),
}

# Where every exception may be caught: one probe of doctor, a loop that must live on, the hand-over of what a thread
# raised to the thread that waits for it, and the two functions at the end of the process.
CATCH_ALL = ("doctor/*", "provider.py", "deadline.py")
CATCH_ALL_FUNCTIONS = {"__main__.py": "main", "cli/ending.py": "ending"}

ENVIRONMENT = ("__main__.py", "cache.py", "config.py", "pins.py", "cli/*", "vend/in_process.py")

MAXIMUM_LINES = 500

# What only POSIX has, or means something there only, and the files where each stands beside a branch for Windows.
# Names of modules, of attributes, and how a text begins that is a path or a command.
POSIX_NAMES = {
    "geteuid": ("base/owner.py", "cached_answer.py", "vend/peers.py"),
    "getuid": (),
    "getegid": (),
    "st_uid": ("base/owner.py", "cached_answer.py", "vend/text_file.py"),
    "st_gid": ("signers/tpm_tcti.py", "vend/text_file.py"),
    "S_IMODE": ("base/owner.py",),
    "chmod": ("base/owner.py",),
    "fchmod": ("base/owner.py",),
    "fchown": ("vend/text_file.py",),
    "chown": (),
    "umask": (),
    "fcntl": ("private_files.py",),
    "pwd": (),
    "grp": (),
    "resource": ("secret.py", "http_protocol/responder_server.py"),
    "termios": ("cli/console.py",),
    "O_NOCTTY": ("cli/console.py",),
    "SIGHUP": ("cli/process.py", "http_protocol/responder_server.py"),
    "SIGKILL": ("cli/process.py", "worker_child.py"),
    "SIGPIPE": ("cli/process.py",),
    "SIGXFSZ": ("cli/process.py",),
    "SIGALRM": (),
    "killpg": ("cli/process.py",),
    "fork": (),
    "register_at_fork": ("forks.py",),
    "setsid": (),
    "prctl": ("secret.py", "worker_child.py"),
    "AF_UNIX": ("base/local_sockets.py",),
    "AF_NETLINK": ("vend/linux_peers.py",),
    "SOCK_CLOEXEC": (),
    "/dev/shm": ("cached_answer.py",),
    "/dev/tty": ("cli/console.py",),
    "/dev/fd": ("cli/process.py",),
    "/dev/tpm": ("signers/tpm_tcti.py",),
    "/proc": ("tokens/holders.py", "vend/linux_peers.py"),
    "chmod ": ("base/owner.py", "cli/process.py"),
}
# Not on Windows: to be imported inside the function that needs them.
POSIX_ONLY = frozenset({"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"})


@dataclass(frozen=True)
class Source:
    """One Python file.

    Attributes:
        path: relative to the directory that the rule speaks of, such as "cli/emulator.py" for a module of rolekey.
        text: its contents.
    """

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """The file, parsed."""
        return ast.parse(self.text, self.path)

    @property
    def name(self) -> str:
        """The first part of the module's name: "cli" for "cli/emulator.py", "arn" for "arn.py"."""
        return PurePosixPath(self.path).parts[0].removesuffix(".py")

    def is_one_of(self, patterns: tuple[str, ...]) -> bool:
        """Whether the path matches one of the patterns; "cli/*" reaches into sub-packages."""
        path = PurePosixPath(self.path)
        return any(parent.match(pattern) for parent in (path, *path.parents) for pattern in patterns)


def read_tree(directory: Path) -> list[Source]:
    """Every Python file below a directory, sorted.

    Args:
        directory: where to start; paths in the result are relative to it.
    """
    return [
        Source(path.relative_to(directory).as_posix(), path.read_text(encoding="utf-8"))
        for path in sorted(directory.rglob("*.py"))
    ]


def imports(source: Source) -> Iterator[tuple[int, str]]:
    """Every import, wherever it stands, as a line number and the full dotted name: module, then the name taken from it.

    Args:
        source: a module of rolekey; relative imports are resolved against its path.
    """
    package = ["rolekey", *PurePosixPath(source.path).parts[:-1]]
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def check_arrows(source: Source) -> list[str]:
    """Imports among rolekey's modules follow `LAYERS`."""
    height = {name: index for index, layer in enumerate(LAYERS) for name in layer}
    if source.name not in {*height, "__init__", "emulator"}:
        return [f"{source.path}: rolekey.{source.name} has no place in LAYERS of tests/support/house_rules.py"]
    found = []
    for line, name in imports(source):
        if name.partition(".")[0] != "rolekey":
            continue
        target = [*name.split("."), "__init__"][1]
        if target != source.name and not _may_import(source, target, height):
            found.append(f"{source.path}:{line}: rolekey.{source.name} may not import {name}")
    return found


def _may_import(source: Source, target: str, height: dict[str, int]) -> bool:
    if source.name in ONLY:
        return target in ONLY[source.name]
    if target == "emulator":
        return source.path == EMULATOR_USER
    if source.name == "__init__":
        return target in height and target not in {"__main__", "cli"}
    if target not in height:  # a name of rolekey/__init__.py, which is for programs, or a module without a place
        return False
    return height[target] > height[source.name] or {source.name, target} in PEERS


def check_dependencies(source: Source) -> list[str]:
    """A dependency is imported only where `DEPENDENCIES` says."""
    return [
        f"{source.path}:{line}: {name} is only for {' and '.join(DEPENDENCIES[top])}"
        for line, name in imports(source)
        if (top := name.partition(".")[0]) in DEPENDENCIES and not source.is_one_of(DEPENDENCIES[top])
    ]


def check_catch_all(source: Source) -> list[str]:
    """Nothing catches every exception, but to clean up and raise it again, or where the two tables above allow it."""
    if source.is_one_of(CATCH_ALL):
        return []
    allowed = {
        child
        for node in source.tree.body
        if isinstance(node, ast.FunctionDef) and node.name == CATCH_ALL_FUNCTIONS.get(source.path)
        for child in ast.walk(node)
    }
    return [
        f"{source.path}:{node.lineno}: catches every exception"
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ExceptHandler)
        and node not in allowed
        and _catches_everything(node.type)
        and not (isinstance(last := node.body[-1], ast.Raise) and last.exc is None)
    ]


def _catches_everything(caught: ast.expr | None) -> bool:
    if caught is None:
        return True
    if isinstance(caught, ast.Tuple):
        return any(_catches_everything(part) for part in caught.elts)
    return ast.unparse(caught).removeprefix("builtins.") in {"Exception", "BaseException"}


def check_environment(source: Source) -> list[str]:
    """The process's environment is read only where `ENVIRONMENT` says."""
    if source.is_one_of(ENVIRONMENT):
        return []
    names = {"environ", "environb", "getenv", "getenvb"}
    uses = [node for node in ast.walk(source.tree) if isinstance(node, ast.Attribute) and node.attr in names]
    found = [(node.lineno, ast.unparse(node)) for node in uses if ast.unparse(node.value) == "os"]
    found += [(line, name) for line, name in imports(source) if name in {f"os.{name}" for name in names}]
    return [f"{source.path}:{line}: {text} is read outside {', '.join(ENVIRONMENT)}" for line, text in found]


def check_portable_imports(source: Source) -> list[str]:
    """No module needs POSIX to be imported."""
    found = [node for node in source.tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = [(n.lineno, alias.name if isinstance(n, ast.Import) else n.module) for n in found for alias in n.names]
    return [f"{source.path}:{line}: imports {name} at module level" for line, name in names if name in POSIX_ONLY]


def check_posix_names(source: Source) -> list[str]:
    """A name of `POSIX_NAMES` stands in the files that the table allows."""
    used: list[tuple[int, str]] = []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and node.attr not in POSIX_ONLY:
            used.append((node.lineno, node.attr))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            used += [
                (node.lineno, start)
                for start in POSIX_NAMES
                if start[-1:] == " " or start[0] == "/"
                if node.value.startswith(start)
            ]
    used += [(line, name.partition(".")[0]) for line, name in imports(source)]
    return [
        f"{source.path}:{line}: {name} is not for here: see POSIX_NAMES"
        for line, name in used
        if name in POSIX_NAMES and source.path not in POSIX_NAMES[name]
    ]


def check_length(source: Source) -> list[str]:
    """No module is longer than a reader's patience."""
    lines = source.text.count("\n")
    return [f"{source.path}: {lines} lines, more than {MAXIMUM_LINES}"] if lines > MAXIMUM_LINES else []


def check_docstrings(source: Source) -> list[str]:
    """A module has a docstring, and so has everything public in it."""
    found = [] if ast.get_docstring(source.tree) else [f"{source.path}: the module has no docstring"]
    return found + [
        f"{source.path}:{node.lineno}: {node.name} has no docstring"
        for node in _public(source.tree)
        if not ast.get_docstring(node)
    ]


_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def _public(scope: ast.Module | ast.ClassDef) -> Iterator[_Definition]:
    for node in scope.body:
        if isinstance(node, _Definition) and not node.name.startswith("_"):
            decorators = {ast.unparse(decorator).rpartition(".")[2] for decorator in node.decorator_list}
            if not decorators & {"overload", "setter"}:
                yield node
            if isinstance(node, ast.ClassDef):
                yield from _public(node)


def check_test_docstrings(source: Source) -> list[str]:
    """Every test says what it promises."""
    return [
        f"{source.path}:{node.lineno}: {node.name} has no docstring"
        for node in ast.walk(source.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test")
        and not ast.get_docstring(node)
    ]
