#!/bin/sh
# install.sh: the chat on an Android phone, in Termux (https://termux.dev; F-Droid has it).
#
#   pkg install git
#   git clone --depth 1 ADDRESS-OF-THIS-PROJECT lucie-edge
#   sh lucie-edge/images/termux/install.sh
#
# Everything stays in that folder and in Termux. What is done is not done again: after an
# interruption, run it once more. It never ran on a phone; images/README.md says which of its steps
# ran where.
set -eu

# Of Termux, as nobody builds them for pip. So no Rust is needed.
READY_MADE="python-numpy python-pydantic-core"
# What compiles llama.cpp for this very processor: its build in Termux is of another version.
COMPILERS="clang cmake ninja"
NEEDED_MB=3000

case ${LUCIE_LANG:-${LANG:-en}} in
    fr*) french=yes ;;
    *) french=no ;;
esac

say() { # ENGLISH FRENCH
    if [ $french = yes ]; then printf '%s\n' "$2"; else printf '%s\n' "$1"; fi
}

fail() { # ENGLISH FRENCH
    say "$1" "$2" >&2
    exit 1
}

help() {
    say "Usage: sh install.sh

Install the chat in Termux on Android: Termux's own packages, llama.cpp, compiled on the phone, the
embedded model, and the command lucie. Allow half an hour or more, $NEEDED_MB MB and a network;
afterwards the chat needs none. What is done is not done again." \
        "Usage : sh install.sh

Installer le chat dans Termux sous Android : les paquets de Termux, llama.cpp, compilé sur le
téléphone, le modèle intégré, et la commande lucie. Comptez une demi-heure ou plus, $NEEDED_MB Mo
et un réseau ; ensuite le chat n’en a plus besoin. Ce qui est fait n’est pas refait."
}

check_phone() {
    if [ -z "${TERMUX_VERSION:-}" ] || [ -z "${PREFIX:-}" ] || ! command -v pkg > /dev/null; then
        fail "This is for Termux on Android; elsewhere: make chat." \
            "Ceci est pour Termux sous Android ; ailleurs : make chat."
    fi
    [ "$(uname -m)" = aarch64 ] \
        || fail "This phone's processor is $(uname -m); 64-bit ARM (aarch64) is needed." \
            "Le processeur de ce téléphone est $(uname -m) ; il faut un ARM à 64 bits (aarch64)."
    free=$(df -Pk "$HOME" | awk 'NR == 2 { print int($4 / 1024) }')
    [ -x "$project/.venv/bin/lucie" ] || [ "$free" -ge $NEEDED_MB ] \
        || fail "$free MB are free; $NEEDED_MB MB are needed." \
            "$free Mo sont libres ; il faut $NEEDED_MB Mo."
}

install_packages() {
    say "1/3 Packages of Termux" "1/3 Paquets de Termux"
    pkg update -y
    # shellcheck disable=SC2086 # lists
    pkg install -y python python-pip python-ensurepip-wheels $READY_MADE $COMPILERS
}

# What `make chat` does: an environment of Python, llama.cpp for this processor, the model.
set_up() {
    say "2/3 The chat, llama.cpp and the model" "2/3 Le chat, llama.cpp et le modèle"
    (cd "$project" && python -m edge.bootstrap ready)
}

link_command() {
    say "3/3 The command lucie" "3/3 La commande lucie"
    ln -sf "$project/.venv/bin/lucie" "$PREFIX/bin/lucie"
    lucie --version
}

case ${1:-} in
    "") ;;
    -h | --help) help && exit ;;
    *) help >&2 && exit 2 ;;
esac
project=$(cd "$(dirname "$0")/../.." && pwd)
check_phone
install_packages
set_up
link_command
say "Ready: lucie" "Prêt : lucie"
