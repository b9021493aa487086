// An OpenAPI description as a measure of answers: the part of JSON Schema that ours uses.

import Foundation
import LoadClient

struct OpenAPIDescription {
    private let paths: [String: [String: Any]]
    private let schemas: [String: Any]

    init(_ document: [String: Any]) {
        paths = document["paths"] as? [String: [String: Any]] ?? [:]
        schemas = (document["components"] as? [String: Any])?["schemas"] as? [String: Any] ?? [:]
    }

    /// Upper-case methods by path.
    var methods: [String: Set<String>] { paths.mapValues { Set($0.keys.map { $0.uppercased() }) } }

    /// Such as `GET /api/v1/auctions`.
    var operations: Set<String> {
        Set(methods.flatMap { path, methods in methods.map { "\($0) \(path)" } })
    }

    /// The members of an operation's body.
    func fields(_ method: String, _ path: String) -> [String] {
        let body = operation(method, path)["requestBody"] as? [String: Any] ?? [:]
        let schema = resolve(Self.schema(of: body))
        return (schema["properties"] as? [String: Any] ?? [:]).keys.sorted()
    }

    /// What is wrong with an answer; empty when it is as described.
    func faults(_ method: String, _ path: String, _ reply: HTTPReply) -> [String] {
        let responses = operation(method, path)["responses"] as? [String: Any] ?? [:]
        guard let response = responses["\(reply.status)"] as? [String: Any] else {
            return ["status \(reply.status) is not described"]
        }
        let schema = Self.schema(of: response)
        guard !schema.isEmpty else { return [] }
        guard let value = try? JSONSerialization.jsonObject(with: Data(reply.body)) else {
            return ["no JSON"]
        }
        return faults(value, schema, at: "$")
    }

    private func operation(_ method: String, _ path: String) -> [String: Any] {
        paths[path]?[method.lowercased()] as? [String: Any] ?? [:]
    }

    private static func schema(of part: [String: Any]) -> [String: Any] {
        let content = part["content"] as? [String: [String: Any]]
        return content?["application/json"]?["schema"] as? [String: Any] ?? [:]
    }

    private func resolve(_ schema: [String: Any]) -> [String: Any] {
        guard let reference = schema["$ref"] as? String else { return schema }
        return schemas[String(reference.split(separator: "/").last ?? "")] as? [String: Any] ?? [:]
    }

    private func faults(_ value: Any, _ schema: [String: Any], at place: String) -> [String] {
        let schema = resolve(schema)
        guard !schema.isEmpty else { return ["\(place): no schema"] }
        if let choices = schema["anyOf"] as? [[String: Any]] {
            return choices.contains { faults(value, $0, at: place).isEmpty }
                ? [] : ["\(place): fits no choice"]
        }
        let types = (schema["type"] as? [String]) ?? [schema["type"] as? String ?? ""]
        guard types.contains(where: { Self.isValue(value, of: $0) }) else {
            return ["\(place): \(value) is no \(types)"]
        }
        var found: [String] = []
        if let allowed = schema["enum"] as? [String], let text = value as? String, !allowed.contains(text) {
            found.append("\(place): \(text) is none of \(allowed)")
        }
        if let object = value as? [String: Any] {
            let properties = schema["properties"] as? [String: [String: Any]] ?? [:]
            for name in schema["required"] as? [String] ?? [] where object[name] == nil {
                found.append("\(place).\(name) is missing")
            }
            for (name, member) in object {
                if let property = properties[name] {
                    found += faults(member, property, at: "\(place).\(name)")
                } else if schema["additionalProperties"] as? Bool == false {
                    found.append("\(place).\(name) is not described")
                }
            }
        }
        if let array = value as? [Any], let items = schema["items"] as? [String: Any] {
            for (index, item) in array.enumerated() {
                found += faults(item, items, at: "\(place)[\(index)]")
            }
        }
        return found
    }

    private static func isValue(_ value: Any, of type: String) -> Bool {
        switch type {
        case "null": value is NSNull
        case "string": value is String
        case "boolean": number(value) == nil && value is Bool
        case "integer": number(value).map { $0.rounded() == $0 } ?? false
        case "number": number(value) != nil
        case "array": value is [Any]
        case "object": value is [String: Any]
        default: false
        }
    }

    /// A number, which to Foundation `true` is too.
    private static func number(_ value: Any) -> Double? {
        guard let number = value as? NSNumber, String(cString: number.objCType) != "c" else { return nil }
        return number.doubleValue
    }
}
