// The completion scripts. They pass the typed words to `fettle completion SHELL -- WORDS…` and put its lines where the shell wants them;
// the program is the one that the line names, else the one that wrote the script.
#include "cli/complete.h"

namespace fettle {
namespace {

constexpr const char* kBash = R"sh(# bash completion of fettle: source it, or put it into /etc/bash_completion.d
_fettle() {
  local program=${COMP_WORDS[0]/#\~/$HOME} current=${COMP_WORDS[COMP_CWORD]} files='' line
  type -P "$program" >/dev/null || program=PROGRAM
  COMPREPLY=()
  while IFS= read -r line; do
    case $line in
      :files*) files=$line ;;
      *) COMPREPLY+=("$line") ;;
    esac
  done < <("$program" completion bash -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
  if [ -z "$files" ]; then compopt +o default 2>/dev/null; return; fi
  case $current in
    [:=]) current='' ;;
    *[\"\'\\]*) return ;;  # the shell's own completion of files knows quotes
  esac
  if [ "${#COMPREPLY[@]}" -gt 0 ]; then
    while IFS= read -r line; do COMPREPLY+=("$(printf %q "$line")"); done < <(compgen -f -X '!*.gguf' -- "$current")
    return
  fi
  compopt -o filenames 2>/dev/null
  if [ "$files" = ':files gguf' ]; then
    while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -f -X '!*.gguf' -- "$current"; compgen -d -- "$current")
  else
    while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -f -- "$current")
  fi
}
complete -o default -F _fettle fettle
)sh";

// Sourced, the script registers the function; in a folder of $fpath it is the function, called for the first completion.
constexpr const char* kZsh = R"sh(#compdef fettle
_fettle() {
  local program=${~words[1]} files='' line
  local -a offers
  (( $+commands[$program] )) || [[ -x $program ]] || program=PROGRAM
  for line in "${(@f)$("$program" completion zsh -- "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}"; do
    case $line in
      :files*) files=$line ;;
      ?*) offers+=("$line") ;;
    esac
  done
  (( $#offers )) && _describe -t values 'fettle' offers
  [[ -n $files ]] || return
  [[ $PREFIX == --*=* ]] && compset -P '*='
  if [[ $files == ':files gguf' ]]; then _files -g '*.gguf(-.)'; else _files; fi
}
if [[ ${funcstack[1]} == _fettle ]]; then _fettle "$@"; else compdef _fettle fettle; fi
)sh";

constexpr const char* kFish = R"sh(# fish completion of fettle
function __fettle_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l option (string match -r -- '^--[^=]*=' "$current")
    set -l value (string replace -r -- '^--[^=]*=' '' "$current")
    set -l program $words[1]
    type -q $program; or set program PROGRAM
    for line in ($program completion fish -- $words[2..] "$current" 2>/dev/null)
        switch $line
            case ':files gguf'
                printf "$option%s\n" (__fish_complete_suffix "$value" .gguf)
            case ':files'
                printf "$option%s\n" (__fish_complete_path "$value")
            case '*'
                echo $line
        end
    end
end
complete -c fettle -f -k -a '(__fettle_complete)'
)sh";

}  // namespace

std::string completion_script(const std::string& shell) {
  std::string script = shell == "bash" ? kBash : shell == "zsh" ? kZsh : shell == "fish" ? kFish : "";
  if (script.empty()) throw usage("no completion for the shell '" + shell + "'", "there are bash, zsh and fish");
  std::error_code error;
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  script.replace(script.find("PROGRAM"), 7, shell_quoted(error ? "fettle" : self.string()));
  return script;
}

}  // namespace fettle
