-- Every command that the other scripts use, on a counter of its own. An error says which
-- of them failed.
local key, kept = KEYS[1], ARGV[1]
for _, command in ipairs({
  {'SET', key, '1', 'PX', kept},
  {'INCRBY', key, 1},
  {'DECRBY', key, 1},
  {'PEXPIRE', key, kept},
  {'PTTL', key},
  {'GET', key},
  {'GETRANGE', key, 0, 0},
  {'SETRANGE', key, 0, '1'},
  {'STRLEN', key},
  {'DEL', key},
}) do
  local answer = redis.pcall(unpack(command))
  if type(answer) == 'table' and answer.err then
    return {err = answer.err .. ' (' .. command[1] .. ')'}
  end
end
return 1
