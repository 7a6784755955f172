-- The leases in `state`, `granted@hits,` for each, the oldest first, and how many slots
-- they hold; also the latest moment that is known. Those that have ended are left out.
-- Before, a lease was kept as `end:hits,`.
local function leases_in(state, lease)
  local found, length, held, latest, sorted = {}, 0, 0, now, true
  for granted, mark, hits in string.gmatch(state, '(%d+)([@:])([1-9]%d*),') do
    length = length + #granted + #hits + 2
    granted, hits = tonumber(granted), tonumber(hits)
    if mark == ':' then
      granted = math.max(granted - lease, 0)
    end
    held = held + hits
    if MOST < granted + lease or MOST < held then
      return {}, 0, now
    end
    sorted = sorted and (#found == 0 or found[#found][1] <= granted)
    found[#found + 1], latest = { granted, hits }, math.max(latest, granted)
  end
  if length ~= #state then
    return {}, 0, now
  end
  if not sorted then
    table.sort(found, function(a, b) return a[1] < b[1] end)
  end
  local live = {}
  held = 0
  for _, it in ipairs(found) do
    if latest < it[1] + lease then
      live[#live + 1], held = it, held + it[2]
    end
  end
  return live, held, latest
end

-- When `excess` slots are free; 0 if there are not so many, or if none has to be.
local function freed(found, lease, excess)
  if excess <= 0 then
    return 0
  end
  for _, it in ipairs(found) do
    excess = excess - it[2]
    if excess <= 0 then
      return it[1] + lease
    end
  end
  return 0
end

-- The text of leases, and how long they last after `latest`.
local function leases_text(found, lease, latest)
  local texts = {}
  for i, it in ipairs(found) do
    texts[i] = text(it[1]) .. '@' .. text(it[2]) .. ','
  end
  local last = #found > 0 and found[#found][1] + lease or 0
  return table.concat(texts), life_after(latest, math.max(last - latest, 0))
end

-- The leases without `hits` of those that `of` says, and how many hits they did not have.
local function leases_without(found, hits, of)
  local rest = {}
  for _, it in ipairs(found) do
    local given = of(it) and math.min(hits, it[2]) or 0
    hits = hits - given
    if given < it[2] then
      rest[#rest + 1] = { it[1], it[2] - given }
    end
  end
  return rest, hits
end

local function leases(state, hits, requests, lease)
  local found, held, latest = leases_in(state, lease)
  local function told(free)
    return { held, free, #found > 0 and found[#found][1] + lease or 0 }
  end
  local before, free = told(0), 0
  if 0 < hits then
    if not forced and requests < held + hits then
      before[2] = freed(found, lease, held - requests + hits)
      return false, before, before
    end
    local newest, added = found[#found], math.min(hits, MOST - held)
    if newest and newest[1] == latest then
      newest[2] = newest[2] + added
    elseif 0 < added then
      found[#found + 1] = { latest, added }
    end
    held = held + added
    free = freed(found, lease, held - requests + hits)
  elseif hits < 0 and held > 0 then
    found = leases_without(found, -hits, function() return true end)
    held = math.max(held + hits, 0)
  else
    return true, before, before
  end
  return true, before, told(free), leases_text(found, lease, latest)
end

-- The very lease that was granted, of which the end is told.
local function undo_leases(state, hits, _, _, told_last, _, lease)
  local found, held, latest = leases_in(state, lease)
  local rest, left = leases_without(found, hits, function(it) return it[1] + lease == told_last end)
  if left == hits then
    return
  end
  return leases_text(rest, lease, latest)
end
