-- The fast path of charge.lua: a script with one charge, to a counter without a ban or holds.
-- It runs before the rest is defined, which takes as long as the charge itself. Returns nil,
-- without having changed anything, if the general path is needed.
local function lone()
  local flags, hits, penalty = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
  local arguments = {}
  for i = 1, tonumber(ARGV[12]) do
    arguments[i] = tonumber(ARGV[12 + i])
  end
  -- One call of one charge, which reserves nothing and is not refused by another.
  if ARGV[5] ~= '1' or ARGV[6] ~= '0' or ARGV[13 + #arguments] or bit.band(flags, 16) ~= 0 then
    return
  end
  local name, value = ARGV[8], nil
  if reader(name) then
    value = reader(name)(KEYS[1])
  else
    value = redis.pcall('GET', KEYS[1]) or ''
  end
  if not value or value.err or type(value) == 'string' and string.find(value, '[!&]') then
    return
  end
  now = tonumber(ARGV[4])
  local passes, before, after, state, life = algorithm(name)(value, hits, unpack(arguments))
  passes = passes or bit.band(flags, 1) == 0
  if not passes and 0 < penalty and 0 < hits then
    return
  end
  -- An all_or_nothing charge that refuses its call is not counted.
  local nothing = bit.band(flags, 2) ~= 0 and (bit.band(flags, 8) ~= 0 or 128 <= flags)
  local made = passes or bit.band(flags, 32) ~= 0 and not nothing
  if made and state then
    local ttl, rest = lifetime(life), 0
    if bit.band(flags, 64) ~= 0 then
      rest = redis.call('PTTL', KEYS[1])
    end
    ttl = rest < ttl and ttl + tonumber(ARGV[7]) or rest
    if state == '' then
      redis.call('DEL', KEYS[1])
    elseif type(state) == 'table' and state.put(state) then
      redis.call('PEXPIRE', KEYS[1], text(ttl))
    else
      state = type(state) == 'table' and state.write(state) or state
      redis.call('SET', KEYS[1], state, 'PX', text(ttl))
    end
  end
  return { passes and 1 or 0, made and 1 or 0, 0, unpack(made and after or before) }
end

local answer = lone()
if answer then
  return { answer }
end

