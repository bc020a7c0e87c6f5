SELECT d.name, c.login, IF(v.type = 'reseller', v.login, ''), COALESCE(u.login, '')
FROM domains d JOIN clients c ON c.id = d.cl_id LEFT JOIN clients v ON v.id = d.vendor_id
LEFT JOIN hosting h ON h.dom_id = d.id LEFT JOIN sys_users u ON u.id = h.sys_user_id
UNION ALL
SELECT a.name, c.login, IF(v.type = 'reseller', v.login, ''), ''
FROM domain_aliases a JOIN domains d ON d.id = a.dom_id JOIN clients c ON c.id = d.cl_id
LEFT JOIN clients v ON v.id = d.vendor_id
