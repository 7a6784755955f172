-- Permits are stored in a ring buffer, so that a charge reads and writes only the slots that
-- change. The value is `#`, a header, and slots of equal size. The header contains: the length
-- of the value in bytes, the kind of the slots, the slot of the oldest permit, the number of
-- permits, the base of their moments, the number of hits before the oldest permit, the number
-- of hits, and the moments of the oldest and the latest permit. A slot contains the moment of
-- its permit and the running total of hits including it, so that a binary search finds the
-- expired permits.
--
-- Moments and totals are modulo `reach` and `wrap`: 2^48 and 2^16, or both 2^53 in the few
-- lists that are longer or have more hits.
local HEADER, HEADER_SIZE = '>I4BI4I4I7I7I7I7I7', 48
local NARROW = { number = 1, size = 8, format = '>I6I2', reach = 281474976710656, wrap = 65536 }
local WIDE = { number = 2, size = 14, format = '>I7I7', reach = MAX_NUMBER + 1, wrap = MAX_NUMBER + 1 }
local KINDS = { NARROW, WIDE }
-- The slots read at once; the most partial reads, after which the whole list is read; the most
-- slots written one by one, above which the whole list is written.
local READ_SLOTS, MAX_READS, MAX_WRITES = 4, 4, 8

-- A list is an immutable table; changes make a copy. Its first `body` permits are `stored` in
-- Redis, starting at the slot `skip`. The `more` permits after them are in `tail`, an array that
-- copies share and may extend.
local EMPTY = { count = 0, held = 0, first = 0, last = 0 }

-- The functions of a list, which the scripts call on a state that is a table.
local LIST = {}
LIST.__index = LIST

local function copy(list)
  return setmetatable({
    kind = list.kind, base = list.base, start = list.start, stored = list.stored, room = list.room,
    skip = list.skip, body = list.body, tail = list.tail, more = list.more, count = list.count,
    held = list.held, first = list.first, last = list.last,
  }, LIST)
end

-- a + b modulo `wrap`. Both are less than `wrap`.
local function wrapped(a, b, wrap)
  local room = wrap - b
  return a < room and a + b or a - room
end

-- The whole value, read once.
local function whole_text(list)
  local stored = list.stored
  stored.text = stored.text or redis.call('GET', stored.key)
  return stored.text
end

-- The bytes of a stored slot: a string, and their position in it.
local function stored_at(list, slot)
  local stored, size = list.stored, list.kind.size
  if stored.text then
    return stored.text, stored.offset + slot * size + 1
  end
  local index = slot % READ_SLOTS
  local first = slot - index
  if not stored[first] and stored.reads < MAX_READS then
    local from = stored.offset + first * size
    stored.reads = stored.reads + 1
    stored[first] = redis.call('GETRANGE', stored.key, from, from + READ_SLOTS * size - 1)
  end
  if stored[first] then
    return stored[first], index * size + 1
  end
  return whole_text(list), stored.offset + slot * size + 1
end

-- The moment of a permit, and the running total of hits up to it. Both are within those of the
-- header, which the slots of a corrupt list may contradict.
local function permit_at(list, i)
  local kind, text, from = list.kind, nil, 1
  if i <= list.body then
    text, from = stored_at(list, (list.skip + i - 1) % list.room)
  else
    text = list.tail[i - list.body]
  end
  local moment, sum = struct.unpack(kind.format, text, from)
  moment = math.max(list.first, math.min(list.base + moment, list.last))
  return moment, math.min((sum - list.start) % kind.wrap, list.held)
end

local function header_text(list, room, skip)
  return '#' .. struct.pack(
    HEADER, HEADER_SIZE + room * list.kind.size, list.kind.number, skip, list.count, list.base,
    list.start, list.held, list.first, list.last
  )
end

-- The stored slots of a list, in order.
local function body_text(list)
  local size, first, last = list.kind.size, list.skip, list.skip + list.body - 1
  local function slots(from, to)
    return from <= to and string.sub(whole_text(list), list.stored.offset + from * size + 1, list.stored.offset + (to + 1) * size) or ''
  end
  if last < list.room then
    return slots(first, last)
  end
  return slots(first, list.room - 1) .. slots(0, last - list.room)
end

-- The value of a list, with spare slots for growth.
function LIST.text(list)
  local spare = 1 + math.floor(list.count / 64)
  local tail = table.concat(list.tail, '', 1, list.more)
  return header_text(list, list.count + spare, 0) .. body_text(list) .. tail .. string.rep('\0', spare * list.kind.size)
end

-- Writes the changed slots and the header in place. Returns false if the whole value has to be
-- written: the list has outgrown its ring, has too many changes, or was not read in part.
function LIST.update(list)
  if not list.stored.key or list.room < list.count or MAX_WRITES < list.more then
    return false
  end
  for i = 1, list.more do
    local slot = (list.skip + list.body + i - 1) % list.room
    redis.call('SETRANGE', list.stored.key, list.stored.offset + slot * list.kind.size, list.tail[i])
  end
  redis.call('SETRANGE', list.stored.key, 0, header_text(list, list.room, list.skip))
  return true
end

-- The index of the first permit after `moment` whose running total exceeds `hits`; the index
-- after the last permit if no permit matches. A galloping search, because the match is mostly
-- near the front.
local function index_after(list, moment, hits)
  local low, high, far = 1, list.count + 1, 1
  while low < high do
    local middle = math.min(math.floor((low + high) / 2), far)
    local granted, held = permit_at(list, middle)
    if moment < granted and hits < held then
      high = middle
    else
      low, far = middle + 1, 2 * middle
    end
  end
  return low
end

local function is_narrow(first, last, held)
  return last - first < NARROW.reach and held < NARROW.wrap
end

-- A new list of the permits in `found`, which are sorted and have `held` hits.
local function packed(found, held)
  local base, last, sum, permits = found[1][1], found[#found][1], 0, {}
  local kind = is_narrow(base, last, held) and NARROW or WIDE
  for i, permit in ipairs(found) do
    local granted, hits = permit[1], permit[2]
    sum = sum + hits
    -- Permits granted at the same moment are one.
    if i == #found or granted < found[i + 1][1] then
      permits[#permits + 1] = struct.pack(kind.format, granted - base, sum)
    end
  end
  return setmetatable({
    kind = kind, base = base, start = 0, stored = { text = table.concat(permits), offset = 0 }, room = #permits,
    skip = 0, body = #permits, tail = {}, more = 0, count = #permits, held = held, first = base, last = last,
  }, LIST)
end

-- Parses the formats of earlier versions: `granted@hits,` for each permit, or `end:hits,`.
local function parse_old_list(state, lifetime)
  local found, length, held = {}, 0, 0
  for granted, mark, hits in string.gmatch(state, '(%d+)([@:])([1-9]%d*),') do
    length = length + #granted + #hits + 2
    granted, hits = tonumber(granted), tonumber(hits)
    if mark == ':' then
      granted = math.max(granted - lifetime, 0)
    end
    held = held + hits
    if MAX_NUMBER < granted + lifetime or MAX_NUMBER < held then
      return EMPTY
    end
    found[#found + 1] = { granted, hits }
  end
  if length ~= #state or length == 0 then
    return EMPTY
  end
  table.sort(found, function(a, b) return a[1] < b[1] end)
  return packed(found, held)
end

-- Parses a header. A list with an inconsistent header is empty.
local function parse_list(header, stored)
  if #header <= HEADER_SIZE or string.byte(header) ~= 35 then
    return EMPTY
  end
  local length, number, skip, count, base, start, held, first, last = struct.unpack(HEADER, header, 2)
  local kind = KINDS[number]
  local room = kind and (length - HEADER_SIZE) / kind.size or 0
  -- Each permit has at least one hit.
  local valid = length + 1 == (stored.text and #stored.text or stored.length) and room % 1 == 0
    and 0 < count and count <= room and skip < room and count <= held and held < kind.wrap
    and start < kind.wrap and base <= first and first <= last and last <= MAX_NUMBER
  if not valid then
    return EMPTY
  end
  return setmetatable({
    kind = kind, base = base, start = start, stored = stored, room = room, skip = skip, body = count, tail = {},
    more = 0, count = count, held = held, first = first, last = last,
  }, LIST)
end

-- The parsed lists, by lifetime and value: each value is parsed once per script.
local lists = {}

local function list_in(state, lifetime)
  if type(state) == 'table' then
    return state
  end
  lists[lifetime] = lists[lifetime] or {}
  local list = lists[lifetime][state]
  if not list then
    if string.byte(state) == 35 then
      list = parse_list(state, { text = state, offset = HEADER_SIZE + 1 })
    else
      list = parse_old_list(state, lifetime)
    end
    lists[lifetime][state] = list
  end
  return list
end

-- Opens the list under `key` and reads only its header. Returns the list and the text after it;
-- nil if the value is not a list.
local function stored_permits(key)
  local header = redis.pcall('GETRANGE', key, 0, HEADER_SIZE)
  if header == '' then
    return EMPTY
  elseif type(header) ~= 'string' then
    return
  end
  local length, rest = redis.call('STRLEN', key), nil
  local own = #header <= HEADER_SIZE and length or struct.unpack('>I4', header, 2) + 1
  if own < length then
    rest, length = redis.call('GETRANGE', key, own, -1), own
  end
  local list = parse_list(header, { key = key, length = length, offset = HEADER_SIZE + 1, reads = 0 })
  if 0 < list.count then
    return list, rest
  end
end

-- The list from the permit at `index` on.
local function list_from(list, index)
  local kind, gone = list.kind, index - 1
  if gone == 0 then
    return list
  elseif list.count == gone then
    return EMPTY
  end
  local _, hits = permit_at(list, gone)
  local rest = copy(list)
  rest.first = permit_at(list, index)
  rest.count, rest.held = list.count - gone, (list.held - hits) % kind.wrap
  rest.start = wrapped(list.start, hits, kind.wrap)
  local stored = math.min(gone, list.body)
  rest.skip, rest.body, rest.more = (list.skip + stored) % list.room, list.body - stored, list.more - gone + stored
  if stored < gone then
    rest.tail = {}
    for i = 1, rest.more do
      rest.tail[i] = list.tail[gone - stored + i]
    end
  end
  return rest
end

-- The permits that have not expired, and the present moment, or the latest moment in the list if
-- a clock is ahead.
local function live(list, lifetime)
  if MAX_NUMBER < list.last + lifetime then
    return EMPTY, now
  end
  local latest = math.max(list.last, now)
  if list.last + lifetime <= latest then
    return EMPTY, latest
  end
  if list.count == 0 or latest < list.first + lifetime then
    return list, latest
  end
  return list_from(list, index_after(list, latest - lifetime, 0)), latest
end

-- The list with another permit of `hits`, at a `moment` not before the latest. A `fresh` list is
-- not shared yet and is changed in place.
local function list_with(list, moment, hits, fresh)
  local held = list.held + hits
  local kind = is_narrow(list.count > 0 and list.first or moment, moment, held) and NARROW or WIDE
  if list.kind ~= kind or kind.reach <= moment - list.base then
    local found, before = {}, 0
    for i = 1, list.count do
      local granted, sum = permit_at(list, i)
      found[i], before = { granted, sum - before }, sum
    end
    found[list.count + 1] = { moment, hits }
    return packed(found, held)
  end
  local all = fresh and list or copy(list)
  if all.last ~= moment then
    all.count, all.more = all.count + 1, all.more + 1
  elseif all.more == 0 then
    all.body, all.more = all.body - 1, 1
  end
  if all.tail[all.more] then
    -- The element belongs to another copy, or to the latest permit, which gets more hits.
    local tail = all.tail
    all.tail = {}
    for i = 1, all.more - 1 do
      all.tail[i] = tail[i]
    end
  end
  all.held, all.last = held, moment
  all.tail[all.more] = struct.pack(kind.format, moment - list.base, wrapped(list.start, held, kind.wrap))
  return all
end

-- The list without `hits` of the permits that expire first. It has more hits than that.
local function list_without(list, hits)
  local rest = copy(list_from(list, math.min(index_after(list, -1, hits), list.count)))
  hits = hits - (list.held - rest.held)
  rest.start, rest.held = wrapped(rest.start, hits, rest.kind.wrap), rest.held - hits
  return rest
end

-- The moment at which the permits of `excess` hits have expired; 0 if `excess` is 0 or larger than
-- the number of hits.
local function expiry_of(list, lifetime, excess)
  if excess <= 0 or list.held < excess then
    return 0
  elseif excess == 1 then
    return list.first + lifetime
  end
  return permit_at(list, math.min(index_after(list, -1, excess - 1), list.count)) + lifetime
end

-- The state to write, and its time to live.
local function permits_state(list, lifetime, latest)
  if list.count == 0 then
    return '', 0
  end
  return list, life_after(latest, math.max(list.last + lifetime - latest, 0))
end

local function permits_snapshot(list, lifetime, free)
  return { list.held, free, list.count > 0 and list.last + lifetime or 0 }
end

local function permits(state, hits, requests, lifetime)
  local all = list_in(state, lifetime)
  local list, latest = live(all, lifetime)
  local held = list.held
  local before, free = permits_snapshot(list, lifetime, 0), 0
  if 0 < hits then
    if not forced and requests < held + hits then
      before[2] = expiry_of(list, lifetime, held - requests + hits)
      return false, before, before
    end
    local added = math.min(hits, MAX_NUMBER - held)
    if 0 < added then
      list = list_with(list, latest, added, list ~= all and 0 < list.count)
    end
    free = expiry_of(list, lifetime, list.held - requests + hits)
  elseif hits < 0 and held > 0 then
    list = -hits < held and list_without(list, -hits) or EMPTY
  else
    return true, before, before
  end
  return true, before, permits_snapshot(list, lifetime, free), permits_state(list, lifetime, latest)
end

-- The list without `released` of the `own` hits of the permit at `index`.
local function list_less(list, index, released, own)
  if list.held == released then
    return EMPTY
  end
  local kind, rest, later = list.kind, copy(list), {}
  for i = released < own and index or index + 1, list.count do
    local moment, sum = permit_at(list, i)
    later[#later + 1] = struct.pack(kind.format, moment - list.base, wrapped(list.start, sum - released, kind.wrap))
  end
  rest.body, rest.tail = math.min(list.body, index - 1), {}
  for i = 1, index - 1 - rest.body do
    rest.tail[i] = list.tail[i]
  end
  for _, slot in ipairs(later) do
    rest.tail[#rest.tail + 1] = slot
  end
  rest.more = #rest.tail
  if rest.body + rest.more == 0 then
    return EMPTY
  end
  rest.count, rest.held = rest.body + rest.more, list.held - released
  rest.first, rest.last = (permit_at(rest, 1)), (permit_at(rest, rest.count))
  return rest
end

-- Releases hits of the permit that expires at `granted_last`, if it still exists.
local function undo_permits(state, hits, _, _, granted_last, _, lifetime)
  local list, latest = live(list_in(state, lifetime), lifetime)
  local index = index_after(list, granted_last - lifetime - 1, 0)
  if list.count < index then
    return
  end
  local granted, sum = permit_at(list, index)
  local own = sum
  if 1 < index then
    local _, before = permit_at(list, index - 1)
    own = sum - before
  end
  local released = math.min(hits, own)
  if granted + lifetime ~= granted_last or released <= 0 then
    return
  end
  return permits_state(list_less(list, index, released, own), lifetime, latest)
end
