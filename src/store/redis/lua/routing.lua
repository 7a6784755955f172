-- Returns the number of KEYS whose value is ARGV[1]. If that is all of them they are deleted.
local found = 0
for _, key in ipairs(KEYS) do
  if redis.call('GET', key) == ARGV[1] then
    found = found + 1
  end
end
if found == #KEYS then
  for _, key in ipairs(KEYS) do
    redis.call('DEL', key)
  end
end
return found
