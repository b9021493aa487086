// Reads the members of a JSON object in a request strictly. A missing member, a wrong type or a value out of
// range is an error that begins with the member's name. Members that the caller does not read are ignored.

import AuctionEvents
import AuctionStore

struct JSONBody: Sendable {
    private let members: [String: JSONValue]
    /// The prefix of a member's name in errors, such as `increment_table[0].`.
    private let place: String

    /// Reads the whole body of a request.
    init(text: String) throws(APIError) {
        let value: JSONValue
        do throws(JSONValue.Failure) {
            value = try JSONValue(Array(text.utf8).span)
        } catch {
            switch error {
            case .malformed: throw .validation("the body is not valid JSON")
            case .duplicateMember: throw .validation("the body has an object with a duplicate member")
            case .loneSurrogate: throw .validation("the body holds half of a surrogate pair")
            }
        }
        guard case .object(let members) = value else { throw .validation("the body must be a JSON object") }
        self.init(members, place: "")
    }

    private init(_ members: [String: JSONValue], place: String) {
        self.members = members
        self.place = place
    }

    /// The member; `nil` when it is missing or `null`.
    private func value(_ name: String) -> JSONValue? {
        guard let value = members[name], value != .null else { return nil }
        return value
    }

    /// True when the member is present and `null`.
    func isNull(_ name: String) -> Bool { members[name] == .null }

    private func required<Value>(_ name: String, _ value: Value?) throws(APIError) -> Value {
        guard let value else { throw .validation("\(place)\(name): is missing") }
        return value
    }

    private func fault(_ name: String, _ rule: String) -> APIError { .validation("\(place)\(name): \(rule)") }

    // MARK: Kinds

    func text(_ name: String) throws(APIError) -> String? {
        switch value(name) {
        case nil: return nil
        case .string(let text)?: return text
        default: throw fault(name, "must be a string")
        }
    }

    func requiredText(_ name: String) throws(APIError) -> String { try required(name, try text(name)) }

    func boolean(_ name: String) throws(APIError) -> Bool? {
        switch value(name) {
        case nil: return nil
        case .boolean(let value)?: return value
        default: throw fault(name, "must be true or false")
        }
    }

    /// A whole number.
    func integer(_ name: String, in range: ClosedRange<Int64>) throws(APIError) -> Int64? {
        switch value(name) {
        case nil: return nil
        case .number(let text)?:
            guard let number = DecimalNumber(text)?.integer, range.contains(number) else {
                throw fault(name, "must be a whole number from \(range.lowerBound) to \(range.upperBound)")
            }
            return number
        default: throw fault(name, "must be a number")
        }
    }

    /// An amount with as many decimals as were written; its currency may allow fewer.
    func amount(_ name: String) throws(APIError) -> Money? {
        switch value(name) {
        case nil: return nil
        case .number(let text)?:
            guard let money = Money(text: text) else {
                throw fault(
                    name, "must be an amount of at least 0, within the maximum and decimals of its currency")
            }
            return money
        default: throw fault(name, "must be a number")
        }
    }

    func requiredAmount(_ name: String) throws(APIError) -> Money { try required(name, try amount(name)) }

    func time(_ name: String) throws(APIError) -> Timestamp? {
        switch value(name) {
        case nil: return nil
        case .string(let text)?:
            guard let time = Timestamp(text: text) else {
                throw fault(name, "must be a time such as 2026-01-10T19:30:00.000Z")
            }
            return time
        default: throw fault(name, "must be a string")
        }
    }

    func texts(_ name: String) throws(APIError) -> [String]? {
        guard let values = try array(name) else { return nil }
        var texts: [String] = []
        for (index, value) in values.enumerated() {
            guard case .string(let text) = value else { throw fault("\(name)[\(index)]", "must be a string") }
            texts.append(text)
        }
        return texts
    }

    func objects(_ name: String) throws(APIError) -> [JSONBody]? {
        guard let values = try array(name) else { return nil }
        var objects: [JSONBody] = []
        for (index, value) in values.enumerated() {
            guard case .object(let members) = value else {
                throw fault("\(name)[\(index)]", "must be an object")
            }
            objects.append(JSONBody(members, place: "\(place)\(name)[\(index)]."))
        }
        return objects
    }

    private func array(_ name: String) throws(APIError) -> [JSONValue]? {
        switch value(name) {
        case nil: return nil
        case .array(let values)?: return values
        default: throw fault(name, "must be an array")
        }
    }
}
