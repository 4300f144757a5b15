# Counts what each process did, from st-format's JSON:
#
#     systracer --json ... | jq -rsf by-process.jq
map(select(.event)) | group_by(.process.comm)
| map({comm: .[0].process.comm, events: length, kinds: (map(.event) | unique | join(","))})
| sort_by(-.events, .comm)
| .[] | "\(.events)\t\(.comm)\t\(.kinds)"
