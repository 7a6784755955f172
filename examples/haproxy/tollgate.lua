-- Asks tollgate whether a request may pass: `http-request lua.tollgate DOMAIN` in haproxy.cfg.
-- It sets txn.decided for a request that may pass. Without an answer, haproxy.cfg decides.

-- The section `listen tollgate` of haproxy.cfg, which sets timeouts and keeps connections.
local CHECK = "http://127.0.0.1:8002/check/forwarded/"

-- The headers that the rules use, in lower case. No other header of the client reaches tollgate.
local HEADERS = { "x-api-key" }

-- Lists of headers begin with 0 in HAProxy, and with 1 in Lua. Send no more than one line of a header:
-- HAProxy 2.6 crashes when a check has more headers than it takes itself.
local function lines(list)
    local copy = {}
    local index = 0
    while list ~= nil and list[index] ~= nil do
        copy[#copy + 1] = list[index]
        index = index + 1
    end
    return copy
end

local function tollgate(txn, domain)
    local client = txn.http:req_get_headers()
    local addresses = lines(client["x-forwarded-for"])
    -- The address of the connection comes last. Clients can write only what is before it.
    table.insert(addresses, txn.f:src())
    local headers = {
        ["x-forwarded-method"] = { txn.f:method() },
        ["x-forwarded-uri"] = { txn.f:pathq() },
        ["x-forwarded-for"] = { table.concat(addresses, ",") },
    }
    for _, name in ipairs(HEADERS) do
        if client[name] ~= nil then
            headers[name] = { table.concat(lines(client[name]), ",") }
        end
    end

    local answer = core.httpclient():get({ url = CHECK .. domain, headers = headers })
    local status = answer and answer.status or 0
    if status == 200 then
        txn:set_var("txn.decided", true)
        for _, name in ipairs({ "ratelimit", "ratelimit-policy" }) do
            local values = lines(answer.headers[name])
            if values[1] ~= nil then
                txn:set_var("txn." .. name:gsub("-", "_"), table.concat(values, ", "))
            end
        end
        return
    end
    -- 502 to 504 come from HAProxy, 503 also from tollgate. No other status may pass: a client can
    -- cause 400 and 431 by itself.
    if status == 0 or (status >= 502 and status <= 504) then
        return
    end

    local reply = txn:reply({ status = status, reason = answer.reason })
    for _, name in ipairs({ "content-type", "cache-control", "retry-after", "ratelimit", "ratelimit-policy" }) do
        for _, value in ipairs(lines(answer.headers[name])) do
            reply:add_header(name, value)
        end
    end
    if answer.body ~= nil then
        reply:set_body(answer.body)
    end
    txn:done(reply)
end

core.register_action("tollgate", { "http-req" }, tollgate, 1)
