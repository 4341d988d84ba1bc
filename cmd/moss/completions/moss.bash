# bash completion for moss: eval "$(moss completion bash)"
_moss() {
    local line=${COMP_LINE:0:COMP_POINT} cur= found
    local -a words
    # Words as the command line has them: bash itself parts them at : and = too.
    read -ra words <<<"$line"
    if [[ $line == *[[:space:]] ]]; then
        words+=("")
    fi
    cur=${words[-1]}
    mapfile -t COMPREPLY < <("${words[0]}" "${words[@]:1}" --generate-bash-completion 2>/dev/null)
    # What stands before the last : or = is a word of its own to bash.
    local before=${cur%"${cur##*[:=]}"}
    if [[ -n $before && $COMP_WORDBREAKS == *"${before: -1}"* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"$before"}")
    fi
}
complete -o bashdefault -o default -F _moss moss
