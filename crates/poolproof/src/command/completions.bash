
# For bash a word ends at each `:` and `=`. This puts the words together as the program will see
# them, completes, and takes away again what stands before the last colon, which bash keeps.
_poolproof_whole_words() {
    local -a whole=()
    local index word current=0 joins=""
    for index in "${!COMP_WORDS[@]}"; do
        word="${COMP_WORDS[index]}"
        if [[ $word == "=" ]]; then
            # It parts an option from its value, which may be empty as yet.
            if (( index == COMP_CWORD )); then whole+=(""); fi
        elif [[ -n $joins || $word =~ ^:+$ ]] && (( ${#whole[@]} > 0 )); then
            whole[${#whole[@]}-1]+="$word"
            joins=""
            if [[ $word =~ ^:+$ ]]; then joins=yes; fi
        else
            whole+=("$word")
        fi
        if (( index == COMP_CWORD )); then current=$(( ${#whole[@]} - 1 )); fi
    done
    local breaks="$COMP_WORDBREAKS" cur="${whole[current]}" prev=""
    if (( current > 0 )); then prev="${whole[current-1]}"; fi
    local -a COMP_WORDS=("${whole[@]}")
    local COMP_CWORD=$current
    _poolproof "$1" "$cur" "$prev"
    if [[ $cur == *:* && $breaks == *:* ]]; then
        local before="${cur%"${cur##*:}"}"
        for index in "${!COMPREPLY[@]}"; do
            COMPREPLY[index]="${COMPREPLY[index]#"$before"}"
        done
    fi
}
