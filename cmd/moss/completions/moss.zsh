#compdef moss
# zsh completion for moss: eval "$(moss completion zsh)"
_moss() {
    local -a found
    found=("${(@f)$(${words[1]} "${(@)words[2,CURRENT]}" --generate-bash-completion 2>/dev/null)}")
    if [[ -n ${found[1]} ]]; then
        compadd -- "${found[@]}"
    else
        _files
    fi
}
if [[ ${funcstack[1]} == _moss ]]; then
    _moss "$@"
else
    compdef _moss moss
fi
