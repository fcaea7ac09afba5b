#!/usr/bin/env bash
# Builds the native module with AddressSanitizer and UndefinedBehaviorSanitizer in an environment of
# its own, and runs the tests that reach native code. Needs gcc and its sanitisers' libraries.
# Arguments replace the folders that pytest gets; WORK says where the environment is kept.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=${WORK:-$root/build/sanitised}
cd "$root"
if [ $# -eq 0 ]; then
    set -- tests/backends tests/attacks tests/files tests/models tests/sampling
fi

[ -x "$work/venv/bin/python" ] || python3 -m venv "$work/venv"
CC=gcc CXX=g++ "$work/venv/bin/pip" install --quiet --force-reinstall --no-deps \
    --config-settings=cmake.define.NEXTN_SANITIZE=ON \
    --config-settings=install.strip=false \
    --config-settings=build-dir="$work/build" .
"$work/venv/bin/python" -c '
import tomllib
with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)["project"]
print(*project["dependencies"], *project["optional-dependencies"]["test"], sep="\n")
' >"$work/requirements.txt"
"$work/venv/bin/pip" install --quiet --requirement "$work/requirements.txt"

# A report ends the process, and what pytest captured until then is lost; so it goes into a file.
reports=$work/reports
rm -rf "$reports"
mkdir -p "$reports"
# Python itself is not instrumented, so the library must be loaded before it, and with it that of
# C++, whose exceptions it intercepts. Python leaks on purpose. To get no memory is an answer that
# nextn is prepared for.
export ASAN_OPTIONS=detect_leaks=0:halt_on_error=1:allocator_may_return_null=1:log_path=$reports/asan
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1:log_path=$reports/ubsan
status=0
LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libstdc++.so)" \
    "$work/venv/bin/python" -m pytest -p no:cacheprovider "$@" || status=$?
for report in "$reports"/*; do
    [ -e "$report" ] || continue
    echo "$report"
    head -n 60 "$report"
    status=1
done
exit "$status"
