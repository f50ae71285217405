#!/bin/sh
# Prints the path of a Python that can make the project's environment: 3.11 or newer, with venv and ensurepip.
# PYTHON=/path/to/python names one; otherwise the first that fits is taken.
fits='import sys, venv, ensurepip; assert sys.version_info >= (3, 11); print(sys.executable)'
if [ -n "${PYTHON:-}" ]; then
  "$PYTHON" -c "$fits" 2>/dev/null && exit 0
  echo "PYTHON=$PYTHON is no Python 3.11 or newer with venv and ensurepip; name another one." >&2
  exit 1
fi
for name in python3.11 python3 python3.12 python3.13 python3.14 python /usr/bin/python3; do
  "$name" -c "$fits" 2>/dev/null && exit 0
done
echo "Tutelage needs Python 3.11 or newer with venv and ensurepip; none was found on PATH." >&2
echo "Install one (on Debian: apt-get install python3 python3-venv) or name one: make PYTHON=/path/to/python ..." >&2
exit 1
