"""A filter on Linux's system calls (seccomp) for a process that runs what it should not trust.

    refuse_calls()   # from here on: no sockets, no processes, no signals, no files written, moved or removed

It holds for the process and all its threads, and cannot be taken off again. Refused calls fail with EPERM.
Numbers of the calls are those of Linux's own tables for each processor (man 2 syscalls, man 2 seccomp).
"""

import ctypes
import errno
import os
import platform
import sys

# name, number on x86_64, number on aarch64; - where the processor has no such call
CALLS = """
socket 41 198 | socketpair 53 199 | connect 42 203 | bind 49 200 | listen 50 201 | accept 43 202
accept4 288 242 | sendto 44 206 | sendmsg 46 211 | sendmmsg 307 269 | fork 57 - | vfork 58 -
execve 59 221 | execveat 322 281 | kill 62 129 | tkill 200 130 | tgkill 234 131 | rt_sigqueueinfo 129 138
rt_tgsigqueueinfo 297 240 | pidfd_send_signal 424 424 | ptrace 101 117 | process_vm_readv 310 270
process_vm_writev 311 271 | creat 85 - | mkdir 83 - | mkdirat 258 34 | rmdir 84 - | unlink 87 -
unlinkat 263 35 | rename 82 - | renameat 264 38 | renameat2 316 276 | link 86 - | linkat 265 37
symlink 88 - | symlinkat 266 36 | truncate 76 45 | ftruncate 77 46 | chmod 90 - | fchmod 91 52
fchmodat 268 53 | fchmodat2 452 452 | chown 92 - | fchown 93 55 | lchown 94 - | fchownat 260 54
utimensat 280 88 | mknod 133 - | mknodat 259 33 | mount 165 40 | umount2 166 39 | pivot_root 155 41
chroot 161 51 | setns 308 268 | unshare 272 97 | bpf 321 280 | perf_event_open 298 241
io_uring_setup 425 425 | keyctl 250 219 | openat2 437 437 | memfd_create 319 279 | setrlimit 160 164
setxattr 188 5 | lsetxattr 189 6 | fsetxattr 190 7
open 2 - | openat 257 56 | clone 56 220 | clone3 435 435 | prlimit64 302 261
"""
ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
CLONE_THREAD = 0x10000
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

# What a line of the filter's program does (linux/bpf_common.h), and what it answers (linux/seccomp.h).
LOAD, EQUAL, AT_LEAST, SOME_BITS, ANSWER = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, FAIL = 0x7FFF0000, 0x00050000
NUMBER_AT, ARCHITECTURE_AT, ARGUMENTS_AT = 0, 4, 16  # bytes into what the filter sees of a call
X32 = 0x40000000  # where the numbers of x86_64's other table begin
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, MODE_FILTER = 38, 22, 2

Line = tuple[int, int, int, int]  # code, lines to skip if so, if not, value


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("if_so", ctypes.c_uint8),
        ("if_not", ctypes.c_uint8),
        ("value", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("lines", ctypes.POINTER(_Instruction)))


def refuse_calls() -> bool:
    """Sets the filter. False where there is none: another system, another processor, a kernel that refuses."""
    machine = platform.machine()
    if sys.platform != "linux" or machine not in ARCHITECTURE:
        return False
    lines = _program(machine)
    filled = (_Instruction * len(lines))(*(_Instruction(*line) for line in lines))
    program = _Program(len(lines), filled)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return bool(libc.prctl(PR_SET_SECCOMP, MODE_FILTER, ctypes.byref(program), 0, 0) == 0)


def _program(machine: str) -> list[Line]:
    refused = (ANSWER, 0, 0, FAIL | errno.EPERM)
    lines: list[Line] = [
        (LOAD, 0, 0, ARCHITECTURE_AT),
        (EQUAL, 1, 0, ARCHITECTURE[machine]),
        refused,
        (LOAD, 0, 0, NUMBER_AT),
    ]
    if machine == "x86_64":
        lines += [(AT_LEAST, 0, 1, X32), refused]
    for name, number in _numbers(machine).items():
        if name in ("open", "openat"):
            lines += _looked_into(number, 1 if name == "open" else 2, WRITES, fails=True)
        elif name == "clone":  # threads, and no processes
            lines += _looked_into(number, 0, CLONE_THREAD, fails=False)
        elif name == "prlimit64":  # limits are read, and not set
            lines += _looked_into(number, 2, 0xFFFFFFFF, fails=True)
        elif name == "clone3":  # whose arguments cannot be seen: the C library then takes `clone`
            lines += [(EQUAL, 0, 1, number), (ANSWER, 0, 0, FAIL | errno.ENOSYS)]
        else:
            lines += [(EQUAL, 0, 1, number), refused]
    return [*lines, (ANSWER, 0, 0, ALLOW)]


def _looked_into(number: int, argument: int, mask: int, *, fails: bool) -> list[Line]:
    """A call that fails, or passes, where an argument has some of the mask's bits."""
    if_so, if_not = (0, 1) if fails else (1, 0)
    return [
        (EQUAL, 0, 4, number),
        (LOAD, 0, 0, ARGUMENTS_AT + 8 * argument),
        (SOME_BITS, if_so, if_not, mask),
        (ANSWER, 0, 0, FAIL | errno.EPERM),
        (ANSWER, 0, 0, ALLOW),
    ]


def _numbers(machine: str) -> dict[str, int]:
    column = 1 if machine == "x86_64" else 2
    rows = [
        entry.split() for line in CALLS.split("\n") for entry in line.split("|") if entry.strip()
    ]
    return {row[0]: int(row[column]) for row in rows if row[column] != "-"}
