-- Runs every command that the other scripts use, on a key of its own. Returns 1, or the error of
-- the first command that fails, with its name.
local key, ttl = KEYS[1], ARGV[1]
for _, command in ipairs({
  {'SET', key, '1', 'PX', ttl},
  {'INCRBY', key, 1},
  {'DECRBY', key, 1},
  {'PEXPIRE', key, ttl},
  {'PTTL', key},
  {'GET', key},
  {'GETRANGE', key, 0, 0},
  {'SETRANGE', key, 0, '1'},
  {'STRLEN', key},
  {'DEL', key},
}) do
  local reply = redis.pcall(unpack(command))
  if type(reply) == 'table' and reply.err then
    return {err = reply.err .. ' (' .. command[1] .. ')'}
  end
end
return 1
