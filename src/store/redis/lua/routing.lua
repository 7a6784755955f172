-- How many of KEYS hold ARGV[1]. They are dropped.
local found = 0
for _, key in ipairs(KEYS) do
  if redis.call('GET', key) == ARGV[1] then
    found = found + 1
  end
  redis.call('DEL', key)
end
return found
