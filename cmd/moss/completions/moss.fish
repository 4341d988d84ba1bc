# fish completion for moss: moss completion fish | source
function __moss_complete
    set -l words (commandline -opc)
    set -l found ($words (commandline -ct) --generate-bash-completion 2>/dev/null)
    if test (count $found) -gt 0
        printf '%s\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c moss -f -a '(__moss_complete)'
