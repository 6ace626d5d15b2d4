#!/bin/sh
# Makes the virtual environment from the lock file; called by make when the lock file changed.
set -eu
venv=$1

find_python() {
    for name in "${PYTHON:-python3}" python3 python3.14 python3.13 python3.12 python3.11; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    echo "no Python 3.11 or newer on the path; install one, or name it: make PYTHON=..." >&2
    exit 2
}

python=$(find_python)
echo "setting up $venv with $($python --version) (about a minute, once)"
rm -rf "$venv"
# Debian keeps ensurepip in a package of its own (python3-venv): without it, pip comes from the
# package that holds pip's wheel, unpacked into a folder of ours and installed nowhere.
if "$python" -c 'import ensurepip' 2>/dev/null; then
    "$python" -m venv "$venv"
else
    "$python" -m venv --without-pip "$venv"
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    (cd "$scratch" && apt-get -qq download python3-pip-whl && dpkg -x ./*.deb .) || {
        echo "Python has no ensurepip here; install the package python3-venv" >&2
        exit 2
    }
    wheel=$(ls "$scratch"/usr/share/python-wheels/pip-*.whl)
    "$venv/bin/python" "$wheel/pip" install --quiet --no-index "$wheel"
fi
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps \
    --require-hashes -r requirements.lock
touch "$venv/.locked"
